"""Answers: messages as JSON, text, and which of the two a client prefers. Nothing here decides what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from quart import Request, Response

_ENCODER = msgspec.json.Encoder()
JSON = "application/json"


def encode(message: msgspec.Struct) -> bytes:
    """The message as the bytes of a JSON body."""
    return _ENCODER.encode(message)


def answer(message: msgspec.Struct, status: int = 200) -> Response:
    """The message as JSON."""
    return Response(_ENCODER.encode(message), status, content_type=JSON)


def answer_list(messages: Sequence[msgspec.Struct], total: int) -> Response:
    """A bare array; how many there are in all is in a header (contract-runs 0.4)."""
    return Response(_ENCODER.encode(messages), 200, headers={"X-Total-Count": str(total)}, content_type=JSON)


def nothing(status: int = 204, headers: dict[str, str] | None = None) -> Response:
    """An answer without a body, and without a type of one."""
    response = Response(b"", status, headers=headers)
    del response.headers["Content-Type"]
    return response


def text(body: str, status: int = 200, content_type: str = "text/plain; charset=utf-8") -> Response:
    """A text answer."""
    return Response(body.encode(), status, content_type=content_type)


def utc(moment: datetime) -> str:
    """RFC 3339 in UTC, zeros at the end of the fraction dropped (contract-runs 0.3)."""
    written = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (written.rstrip("0") if "." in written else written) + "Z"


def utc_or_none(moment: datetime | None) -> str | None:
    """`utc` of a time that may be absent."""
    return None if moment is None else utc(moment)


def prefers(request: Request, wanted: tuple[str, ...], default: str) -> str | None:
    """The type of `wanted` that the client likes strictly better than `default`, or None."""
    accepted = request.accept_mimetypes
    if not accepted:
        return None
    best = max(wanted, key=accepted.quality)
    return best if accepted.quality(best) > accepted.quality(default) else None
