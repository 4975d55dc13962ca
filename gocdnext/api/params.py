"""Reading what a request says: ids, whole numbers, small JSON bodies (contract-runs 0.3). Raises InvalidError."""

from __future__ import annotations

import json
import re
from typing import TypeVar
from uuid import UUID

import msgspec
from quart import request
from werkzeug.exceptions import RequestEntityTooLarge

from gocdnext.errors import InvalidError

INT32 = 2**31 - 1
INT64 = 2**63 - 1
OPTIONAL_BODY = 64 * 1024
"""Bytes of a body that may be left out."""

_HEX = re.compile(r"[0-9a-fA-F]{32}")
_DASHED = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")

S = TypeVar("S", bound=msgspec.Struct)


def uuid(value: str, message: str = "invalid id") -> UUID:
    """An id of a path. Dashes may be missing, `urn:uuid:` and braces are allowed; anything else is `message`."""
    found = parse_uuid(value)
    if found is None:
        raise InvalidError(message)
    return found


def parse_uuid(value: str) -> UUID | None:
    """The id that a text is, in any of the accepted spellings, or None."""
    if _HEX.fullmatch(value) or _DASHED.fullmatch(value):
        return UUID(value)
    inner = value[9:] if value[:9].lower() == "urn:uuid:" else value[1:-1] if value[:1] + value[-1:] == "{}" else ""
    return UUID(inner) if _DASHED.fullmatch(inner) else None


def whole(name: str, default: int, *, low: int, high: int, width: int = INT32, refusal: str = "") -> int:
    """A whole number of the query string: absent or empty is `default`, over `high` is `high`.

    Below `low`, over `width`, or not a number in base 10 is refused, with `refusal` where a route has words of its own.
    """
    value = request.args.get(name, "")
    if not value:
        return default
    if not _WHOLE.fullmatch(value) or not low <= int(value) <= width:
        raise InvalidError(refusal or f"invalid '{name}' query")
    return min(int(value), high)


async def body() -> bytes:
    """The whole body of the request. RequestEntityTooLarge (413) and RequestTimeout (408) are the error table's."""
    return await request.get_data(cache=True, as_text=False, parse_form_data=False)


async def body_within(limit: int) -> bytes | None:
    """The whole body of the request; None when it is larger than `limit` bytes, so that each route refuses it in its words."""
    try:
        data = await body()
    except RequestEntityTooLarge:
        return None
    return data if len(data) <= limit else None


async def optional_body(kind: type[S]) -> S:
    """The JSON object of a body that may be absent or empty; at most OPTIONAL_BODY bytes, nothing after the object."""
    data = await body_within(OPTIONAL_BODY)
    if data is None:
        raise InvalidError(f"read body: larger than {OPTIONAL_BODY} bytes")
    if not data.strip():
        return kind()
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise InvalidError(f"invalid JSON body: {_reason(error)}") from None


async def lenient_body(kind: type[S]) -> S:
    """The same where what cannot be read is as good as nothing (contract-runs 4.3)."""
    try:
        return await optional_body(kind)
    except InvalidError:
        return kind()


def json_object(data: bytes, kind: type[S]) -> S:
    """The first JSON value of a required body; what comes after it is ignored (0.3)."""
    try:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            if "trailing characters" not in str(error):
                raise
            text = data.decode().lstrip()
            _, end = json.JSONDecoder().raw_decode(text)
            return msgspec.json.decode(text[:end], type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InvalidError(f"invalid json: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
