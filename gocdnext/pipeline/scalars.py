"""What a scalar means once its target type is known (spec-pipelines 1.2: the dialect of Go's yaml.v3).

Each function takes a scalar and answers the value, None for null, or raises `Misfit` with a sentence. Nothing here
knows about keys or schemas.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import math
import re

from gocdnext.pipeline.nodes import Scalar

NULLS = frozenset(("", "~", "null", "Null", "NULL"))
TRUE = frozenset(("true", "True", "TRUE"))
FALSE = frozenset(("false", "False", "FALSE"))
# The 1.1 words count where a boolean is wanted, and only there.
TRUE_WORDS = TRUE | frozenset(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"))
FALSE_WORDS = FALSE | frozenset(("n", "N", "no", "No", "NO", "off", "Off", "OFF"))

_CORE = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)")
_TIME = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[Tt](\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.\d+)?(?:Z|[-+]\d\d:\d\d)| (\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.\d+)?)?"
)
_MAX_NUMBER = 100  # characters; a longer number fits no field
_INT64 = range(-(2**63), 2**63)


class Misfit(Exception):
    """A scalar that the wanted type cannot take; the text says what it is instead."""


def text(scalar: Scalar) -> str | None:
    """Any scalar with its literal spelling; None for null."""
    value = scalar.value
    if scalar.tag is None:
        return None if scalar.plain and value in NULLS else value
    kind = core_tag(scalar)
    if kind == "null":
        return None
    if kind == "binary":
        try:
            data = base64.b64decode("".join(value.split()), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise Misfit("the `!!binary` value is not base64 of UTF-8 text") from None
        if "\0" in data:
            raise Misfit("the `!!binary` value contains a NUL character")
        return data
    return value


def boolean(scalar: Scalar) -> bool | None:
    """`true`, `false` and the words of YAML 1.1, unquoted."""
    kind = core_tag(scalar)
    if kind == "null":
        return None
    if kind in ("bool", "str") and (scalar.plain or kind == "bool"):
        if scalar.value in TRUE_WORDS:
            return True
        if scalar.value in FALSE_WORDS:
            return False
    raise Misfit(f"expected true or false, not {described(scalar)}")


def integer(scalar: Scalar) -> int | None:
    """A whole number of 64 bits; a float is cut towards zero."""
    value = number(scalar)
    if value is None:
        return None
    if math.isfinite(value) and int(value) in _INT64:
        return int(value)
    raise Misfit("the number is out of range")


def number(scalar: Scalar) -> int | float | None:
    """Any number, `.inf` and `.nan` included."""
    kind = core_tag(scalar)
    if kind == "null":
        return None
    if kind == "int":
        return _as_int(scalar.value)
    if kind == "float":
        return _as_float(scalar.value)
    raise Misfit(f"expected a number, not {described(scalar)}")


def described(scalar: Scalar) -> str:
    """What the reader of an error message should see: `the text "2"`, `a date`."""
    kind = core_tag(scalar)
    if kind == "str":
        shown = scalar.value if len(scalar.value) <= 40 else scalar.value[:39] + "…"
        return f'the {"" if scalar.plain else "quoted "}text "{"".join(c if c.isprintable() else " " for c in shown)}"'
    names = {"null": "nothing", "bool": "a boolean", "int": "a number", "float": "a number", "timestamp": "a date"}
    return names.get(kind, f"a `{kind}`")


def core_tag(scalar: Scalar) -> str:
    """The type a scalar has by itself: str, null, bool, int, float, timestamp, binary or merge.

    Unknown tags are ignored. Raises `Misfit` when an explicit tag does not fit the spelling (`!!int abc`).
    """
    tag = scalar.tag
    explicit = tag[len(_CORE) :] if tag is not None and tag.startswith(_CORE) else None
    if explicit in ("str", "binary"):
        return explicit
    if explicit not in ("null", "bool", "int", "float", "timestamp"):
        return _resolved(scalar.value) if scalar.plain else "str"
    found = _resolved(scalar.value)
    if found == explicit:
        return found
    if explicit == "float" and found == "int":
        return "float"
    raise Misfit(f"the value does not fit its tag `!!{explicit}`")


def _resolved(value: str) -> str:
    if value in NULLS:
        return "null"
    if value in TRUE or value in FALSE:
        return "bool"
    if value == "<<":
        return "merge"
    if value[0] not in "+-.0123456789" or len(value) > _MAX_NUMBER:
        return "str"
    if _is_time(value):
        return "timestamp"
    plain = value.replace("_", "")
    if _INT.fullmatch(plain):
        return "int" if -(2**63) <= _as_int(plain) < 2**64 else "float"
    if _FLOAT.fullmatch(plain) or _INFINITE.fullmatch(value) or _NAN.fullmatch(value):
        return "float"
    return "str"


def _as_int(value: str) -> int:
    plain = value.replace("_", "").lower()
    digits = plain.lstrip("+-")
    if digits[:1] == "0" and digits[1:2].isdigit():
        plain = plain.replace("0", "0o", 1)
    return int(plain, 0)


def _as_float(value: str) -> float:
    plain = value.replace("_", "").lower()
    return float(plain.replace(".inf", "inf").replace(".nan", "nan") if plain[-1] in "fn" else _decimal(plain))


def _decimal(plain: str) -> str:
    """A whole number too wide for 64 bits may be spelled in another base."""
    return str(_as_int(plain)) if _INT.fullmatch(plain) else plain


def _is_time(value: str) -> bool:
    found = _TIME.fullmatch(value)
    if not found:
        return False
    numbers = [int(part) for part in found.groups(default="0")]
    hour, minute, second = (max(pair) for pair in zip(numbers[3:6], numbers[6:9], strict=True))
    try:
        datetime.datetime(numbers[0], numbers[1], numbers[2], hour, minute, second)
    except ValueError:
        return False
    return True
