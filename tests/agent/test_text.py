"""The pure parts: lines, masks, durations, settings, outputs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gocdnext.agent.config import TABLE, AgentSettings, ConfigError
from gocdnext.agent.lines import MAX_LINE, LineSplitter
from gocdnext.agent.masks import Masker
from gocdnext.agent.outputs import OutputsError, parse
from gocdnext.durations import format_duration

NO_SECRETS = Masker([])
BASE = {
    "GOCDNEXT_SERVER_ADDR": "ci.example.org:8154",
    "GOCDNEXT_AGENT_NAME": "agent-1",
    "GOCDNEXT_AGENT_TOKEN": "secret-token",
}


def split(*chunks: bytes, masker: Masker = NO_SECRETS) -> list[str]:
    splitter = LineSplitter(masker)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.finish()


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([], []),
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"no newline"], ["no newline"]),
        ([b"\n\n"], ["", ""]),
        ([b"dos\r\n", b"half\r", b"\n"], ["dos", "half"]),
        ([b"two\r\r\n"], ["two\r"]),
        ([b"progress 1\rprogress 2\n"], ["progress 1\rprogress 2"]),
        ([b"a\0b\n"], ["ab"]),
        ([b"\xff\xfe\n"], ["��"]),
        ([b"\xc3", b"\xa4\n"], ["ä"]),
        ([b"cut \xc3\nnext\n"], ["cut �", "next"]),
        ([b"end \xe2\x82"], ["end �"]),
    ],
)
def test_lines(chunks: list[bytes], lines: list[str]) -> None:
    assert split(*chunks) == lines


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])), st.lists(st.integers(0, 200)))
def test_chunk_borders_change_nothing(text: str, cuts: list[int]) -> None:
    data = text.encode()
    borders = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[start:end] for start, end in itertools.pairwise(borders)]
    assert split(*chunks) == split(data)
    assert "\n".join(split(data)) == text.removesuffix("\n")


def test_a_long_line_is_split_and_nothing_is_lost() -> None:
    line = "".join(chr(97 + number % 26) for number in range(5 * MAX_LINE + 17))
    chunks = [line.encode()[start : start + 1000] for start in range(0, len(line), 1000)]
    for pieces in (split(line.encode() + b"\n"), split(*chunks, b"\n")):
        assert "".join(pieces) == line
        assert max(map(len, pieces)) == MAX_LINE
        assert len(pieces) == 6


@settings(deadline=None)
@given(st.integers(-40, 40), st.integers(1, 5000))
def test_no_secret_slips_through_where_a_long_line_is_split(offset: int, chunk: int) -> None:
    secret = "correct-horse-battery-staple"
    data = b"." * (MAX_LINE + offset) + secret.encode() + b"." * (MAX_LINE + 100)
    pieces = split(*(data[start : start + chunk] for start in range(0, len(data), chunk)), masker=Masker([secret]))
    assert "".join(pieces).strip(".") == "***"


def test_masks_longest_first_and_single_lines() -> None:
    mask = Masker(["abcd", "abcdefgh", "key", "-----BEGIN-----\nline one\nline two\nxy\n"])
    assert mask("abcdefgh abcd key") == "*** *** key"
    assert mask("see line two here") == "see *** here"
    assert mask("xy") == "xy"
    assert mask("-----BEGIN-----\nline one\nline two\nxy\n") == "***"


def test_masks_count_bytes() -> None:
    assert Masker(["äö"])("äö") == "***"
    assert Masker(["abc"])("abc") == "abc"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "<1s"), (1, "1s"), (5.4, "5s"), (90, "1m30s"), (3600, "1h0m0s"), (59.9, "1m0s")]
)
def test_marker_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_settings_defaults() -> None:
    settings = AgentSettings.from_env(BASE)
    assert (settings.host, settings.port, settings.capacity, settings.engine) == ("ci.example.org", 8154, 1, "shell")
    assert (settings.drain_budget, settings.drain_flush_timeout, settings.tags) == (300, 45, ())
    assert settings.workspace_root.endswith("/gocdnext-workspace")
    assert "secret-token" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "") for name in BASE),
        ("GOCDNEXT_SERVER_ADDR", "ci.example.org"),
        ("GOCDNEXT_SERVER_ADDR", "http://ci.example.org:8154"),
        ("GOCDNEXT_SERVER_ADDR", "ci.example.org:99999"),
        ("GOCDNEXT_AGENT_CAPACITY", "0"),
        ("GOCDNEXT_AGENT_CAPACITY", "many"),
        ("GOCDNEXT_DRAIN_BUDGET", "5"),
        ("GOCDNEXT_DRAIN_FLUSH_TIMEOUT", "0"),
    ],
)
def test_wrong_settings_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        AgentSettings.from_env({**BASE, name: value})


def test_addresses() -> None:
    assert AgentSettings.from_env({**BASE, "GOCDNEXT_SERVER_ADDR": "[::1]:1"}).host == "::1"
    assert AgentSettings.from_env({**BASE, "GOCDNEXT_SERVER_ADDR": ":8154"}).host == "127.0.0.1"


def test_every_variable_is_documented_once() -> None:
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))
    assert all(row.meaning.endswith(".") for row in TABLE)


def test_outputs_file() -> None:
    assert parse(b'# comment\n\nA=1\nB = x\nC="two words"\nD=\'q\'\nE="half\nF=a=b\r\n') == {
        "A": "1",
        "B": " x",
        "C": "two words",
        "D": "q",
        "E": '"half',
        "F": "a=b",
    }


@pytest.mark.parametrize("data", [b"no equals", b"1A=x", b"A-B=x", b"A=1\nA=2", b"A=\0", b"A=\xff", b"=x"])
def test_bad_outputs_files(data: bytes) -> None:
    with pytest.raises(OutputsError):
        parse(data)
