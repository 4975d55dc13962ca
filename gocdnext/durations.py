"""Lengths of time as people write and read them (spec-pipelines 3.13, protocol-agent 3.4). Pure; knows no limits."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),  # U+00B5
    "μs": Decimal("1e-6"),  # U+03BC
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONG_PART = re.compile(
    r"\s*(\d{1,9})\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w)(?![a-z])\s*,?", re.ASCII
)
_LONG_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MAX_TEXT = 64
_MAX_SECONDS = Decimal(2**63) / 10**9


def go_duration(text: str) -> Decimal | None:
    """Seconds of a Go duration (`1h30m`, `90s`, `0`), or None when the text is none (spec-pipelines 3.13)."""
    if not text or len(text) > _MAX_TEXT:
        return None
    sign, body = (-1, text[1:]) if text[0] == "-" else (1, text.removeprefix("+"))
    if body == "0":
        return Decimal(0)
    total, at = Decimal(0), 0
    while at < len(body):
        part = _PART.match(body, at)
        if part is None:
            return None
        total += Decimal(part[1]) * _UNITS[part[2]]
        at = part.end()
    return sign * total if at and total <= _MAX_SECONDS else None


def retention(text: str) -> int | None:
    """Seconds of a Go duration or of the longer spellings used for artifacts (`7d`, `2 weeks`); else None."""
    exact = go_duration(text)
    if exact is not None:
        return int(exact)
    if not text.strip() or len(text) > _MAX_TEXT:
        return None
    total, at = 0, 0
    while at < len(text):
        part = _LONG_PART.match(text, at)
        if part is None:
            return None
        total += int(part[1]) * _LONG_UNITS[part[2][0]]
        at = part.end()
    return total


def hint(text: str) -> str:
    """What to write instead of a text that `go_duration` does not take."""
    days = re.fullmatch(r"\s*(\d{1,4})\s*(d|days?|w|weeks?)\s*", text, re.ASCII)
    if days:
        hours = int(days[1]) * (24 if days[2][0] == "d" else 168)
        return f"days and weeks are written in hours: `{hours}h`"
    bare = re.fullmatch(r"\s*(\d{1,6})\s*", text, re.ASCII)
    if bare and int(bare[1]):
        return f"add a unit: `{bare[1]}m` for minutes, `{bare[1]}s` for seconds"
    return "write a duration such as `90s`, `30m` or `1h30m`"


def format_duration(seconds: float) -> str:
    """Whole seconds as `5s`, `1m30s`, `168h0m0s`; below one second `<1s`."""
    if seconds < 1:
        return "<1s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minute}m{second}s"
    return f"{minute}m{second}s" if minute else f"{second}s"
