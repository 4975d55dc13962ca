"""Log text made safe for a terminal; durations and times."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gocdnext.cli.terminal import RESET, duration, parse, safe

SGR = re.compile(r"\x1b\[[0-9;:]*m")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext ü 漢", "plain\ttext ü 漢"),
        ("\x1b[1;31mred\x1b[0m", f"\x1b[1;31mred\x1b[0m{RESET}"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never closed", ""),
        ("\x1b[2J\x1b[H\x1b[?1049hmoved", "moved"),
        ("\x1bc\x1b(0reset", "reset"),
        ("\x1bP1$q\x1b\\dcs", "dcs"),
        ("a\rb\x07\x00\x7f", "a␍b␇␀␡"),
        ("\x9b31m\x9d0;t\x9c", "\ufffd31m\ufffd0;t\ufffd"),
        ("\u202eexe.txt", "\ufffdexe.txt"),
        ("end\x1b", "end"),
    ],
)
def test_what_a_line_may_do(text: str, shown: str) -> None:
    assert safe(text, colours=True) == shown


def test_without_colours_nothing_of_them_is_left() -> None:
    assert safe("\x1b[1;31mred\x1b[0m", colours=False) == "red"


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[]0;mPX\\\x07\x9b\x00"))))
def test_only_colours_survive(text: str) -> None:
    shown = safe(text, colours=True)
    rest = SGR.sub("", shown)
    assert not any(char != "\t" and (ord(char) < 32 or 0x7F <= ord(char) < 0xA0) for char in rest)
    assert rest == safe(text, colours=False)


@pytest.mark.parametrize(
    ("started", "finished", "shown"),
    [
        (None, None, "-"),
        ("2026-04-28T11:58:00Z", "2026-04-28T11:58:01.25Z", "1.2s"),
        ("2026-04-28T11:58:00Z", "2026-04-28T12:00:04Z", "2m04s"),
        ("2026-04-28T11:58:00+02:00", "2026-04-28T11:58:00.000000001Z", "2h00m00s"),
        ("2026-04-28T11:58:01Z", "2026-04-28T11:58:00Z", "0.0s"),
    ],
)
def test_durations(started: str | None, finished: str | None, shown: str) -> None:
    assert duration(started, finished) == shown


def test_times_may_have_nanoseconds() -> None:
    assert parse("2026-04-28T11:58:00.123456789Z").microsecond == 123456
