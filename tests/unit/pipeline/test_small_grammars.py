"""Durations, patterns, scalars and plugin references, value by value."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gocdnext import durations
from gocdnext.pipeline import globs, scalars
from gocdnext.pipeline.nodes import Scalar
from gocdnext.pipeline.services import derived_name
from gocdnext.pipeline.uses import resolve_uses


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("+0", 0), ("1m", 60), ("1h30m", 5400), ("1.5h", 5400), (".5m", 30), ("-2s", -2), ("1h1h", 7200),
        ("5.s", 5), ("1us", Decimal("1e-6")), ("1µs", Decimal("1e-6")), ("2ms", Decimal("0.002")),
        ("", None), ("1", None), ("m", None), ("1 m", None), ("1d", None), ("-", None), (".s", None), ("1mx", None),
        ("٣m", None), ("1h-1m", None), ("9" * 12 + "h", None), ("1" * 65, None),
    ],
)  # fmt: skip
def test_go_duration(text: str, seconds: int | Decimal | None) -> None:
    assert durations.go_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7d", 604_800), ("2 weeks", 1_209_600), ("1 day, 2 hours", 93_600), ("30 mins 4 sec", 1804), ("12h", 43_200),
        ("1 month", None), ("soon", None), ("", None), (" ", None), ("d", None),
    ],
)  # fmt: skip
def test_retention(text: str, seconds: int | None) -> None:
    assert durations.retention(text) == seconds


@pytest.mark.parametrize("pattern", ["**/*.go", "{a,b}/c", "[a-z]?", "[^]x]", "a\\[b", "[!a]", "a]b", "{a,{b,c}}"])
def test_patterns_that_are_well_formed(pattern: str) -> None:
    assert (globs.flaw(pattern) == "") is (pattern != "[^]x]")


@pytest.mark.parametrize("pattern", ["[", "[]", "[]a]", "[^", "[a", "[a\\]", "{a", "a}", "a\\", "{a}}"])
def test_patterns_that_are_not(pattern: str) -> None:
    assert globs.flaw(pattern)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "null"), ("~", "null"), ("true", "bool"), ("yes", "str"), ("12", "int"), ("-0x1F", "int"), ("0b11", "int"),
        ("1_0", "int"), ("08", "float"), ("1e3", "float"), (".5", "float"), ("+.inf", "float"), (".nan", "float"),
        ("1.2.3", "str"), ("2020-01-01", "timestamp"), ("2020-13-01", "str"), ("2020-1-1 10:00:00", "timestamp"),
        ("2001-12-14t21:59:43.10-05:00", "timestamp"), ("<<", "merge"), ("-", "str"), ("18446744073709551616", "float"),
        ("12:30:45", "str"), ("+", "str"), ("0o17", "int"), ("0x", "str"),
    ],
)  # fmt: skip
def test_what_a_plain_scalar_is(text: str, kind: str) -> None:
    assert scalars.core_tag(Scalar(text, 1, 1)) == kind
    assert scalars.core_tag(Scalar(text, 1, 1, plain=False)) == "str"


@pytest.mark.parametrize(
    ("reference", "image"),
    [("a/b", "a/b"), (" a/b@v1\t", "a/b:v1"), ("a@sha256:0", "a@sha256:0"), ("a:t@sha256:0", "a:t@sha256:0")],
)
def test_uses(reference: str, image: str) -> None:
    assert resolve_uses(reference) == (image, "")


@pytest.mark.parametrize(
    ("image", "name"),
    [("pg", "pg"), ("pg:1", "pg"), ("r:5000/a/pg:1@sha256:0", "pg"), ("a/", ""), (":1", ""), ("@sha256:0", "")],
)
def test_derived_service_name(image: str, name: str) -> None:
    assert derived_name(image) == name
