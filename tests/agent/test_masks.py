"""Secrets in the forms in which tools print them (protocol-agent 3.5; anchors E 6)."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import subprocess
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gocdnext.agent.lines import LineSplitter
from gocdnext.agent.masks import MASK, Masker

SECRET = "pa ss/wo'r\"d+é&<x>\\end"
SECRETS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=8, max_size=80).filter(str.strip)


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        urllib.parse.quote(SECRET),
        urllib.parse.quote(SECRET, safe=""),
        urllib.parse.quote_plus(SECRET),
        re.sub("%..", lambda match: match[0].lower(), urllib.parse.quote(SECRET, safe="")),
        html.escape(SECRET),
        html.escape(SECRET, quote=False),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_forms(form: str) -> None:
    assert Masker([SECRET])(f"before {form} after") == f"before {MASK} after"


@settings(deadline=None)
@given(SECRETS, st.binary(max_size=20), st.binary(max_size=20))
def test_base64_in_the_middle_of_something_else(secret: str, before: bytes, after: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = Masker([secret])(encode(before + secret.encode() + after).decode())
        assert MASK in text
        rest = text.split(MASK)
        assert len(rest[0]) <= len(before) * 4 / 3 + 4
        assert len(rest[-1]) <= len(after) * 4 / 3 + 6


def test_a_password_of_basic_authentication() -> None:
    header = base64.b64encode(b"user:correct-horse-battery").decode()
    masked = Masker(["correct-horse-battery"])(f"Authorization: Basic {header}")
    assert MASK in masked
    assert len(masked) < len("Authorization: Basic dXNlcjp" + MASK) + 4


@pytest.mark.parametrize("columns", [64, 76])
def test_base64_in_lines(columns: int) -> None:
    secret = (
        "-----BEGIN KEY-----\n"
        + "\n".join("abcdefghijklmnopqrstuvwxyz0123456789" for _ in range(9))
        + "\n-----END-----"
    )
    whole = base64.b64encode(secret.encode()).decode()
    mask = Masker([secret])
    for start in range(0, len(whole), columns):
        assert mask(whole[start : start + columns]) == MASK


def test_lines_of_several_lines_whatever_their_ends() -> None:
    mask = Masker(["line one\r\nline two\r\n\r\nabc"])
    for text in ("line one", "line two"):
        assert mask(f"> {text} <") == f"> {MASK} <"
    assert mask("abc") == "abc"
    assert mask("line one\r\nline two\r\n\r\nabc") == MASK
    assert mask(json.dumps("line one\r\nline two\r\n\r\nabc")) == f'"{MASK}"'


def test_what_a_shell_prints_when_it_traces() -> None:
    secret = "it's a secret"
    done = subprocess.run(
        ["sh", "-xc", f": {shlex.quote(secret)}"], capture_output=True, text=True, timeout=10, check=True
    )
    assert "secret" not in Masker([secret])(done.stderr)


def test_short_secrets_are_left_alone_in_all_forms() -> None:
    mask = Masker(["abc", "", "\n", "a\nb"])
    for text in ("abc", "YWJj", "a", "nothing"):
        assert mask(text) == text


@settings(deadline=None, max_examples=50)
@given(SECRETS, st.integers(1, 30), st.integers(0, 40))
def test_chunk_borders_hide_nothing(secret: str, size: int, offset: int) -> None:
    line = "." * offset
    for form in (secret, base64.b64encode(secret.encode()).decode(), urllib.parse.quote(secret, safe="")):
        line += f" {form} "
    data = line.encode() + b"\n"
    splitter = LineSplitter(Masker([secret]))
    lines = [text for at in range(0, len(data), size) for text in splitter.feed(data[at : at + size])]
    assert lines == [Masker([secret])(line)]
    assert secret not in lines[0]
