"""Kubernetes quantities (`512Mi`, `1.5`, `500m`), in which jobs write their resources. Text to numbers only."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{unit: Decimal(1000) ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": Decimal(1024) ** (power + 1) for power, unit in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})([eE]-?[0-9]{1,2}|[A-Za-z]{0,2})")


class QuantityError(Exception):
    """The text is not a quantity; says what to write."""


def number(text: str) -> Decimal:
    """A quantity as a number, to compare it with another. Raises QuantityError."""
    return _value(text, "500m, 1.5 or 512Mi")


def size(text: str) -> int:
    """Bytes of a memory quantity, at least one."""
    return max(1, int(_value(text, "512Mi or 2G")))


def cores(text: str) -> float:
    """Processors of a cpu quantity."""
    return float(_value(text, "500m or 1.5"))


def _value(text: str, example: str) -> Decimal:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise QuantityError(f"{text!r} is not a quantity; write for example {example}")
    number, suffix = match.groups()
    if suffix[:1] in {"e", "E"} and len(suffix) > 1 and suffix != "Ei":
        value = Decimal(number + suffix)
    elif suffix in _SUFFIXES:
        value = Decimal(number) * _SUFFIXES[suffix]
    else:
        raise QuantityError(f"{text!r} has an unknown unit; write for example {example}")
    if not 0 < value < Decimal(2) ** 63:
        raise QuantityError(f"{text!r} is out of range; write for example {example}")
    return value
