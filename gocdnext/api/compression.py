"""gzip for answers that are worth it, when the client allows it. Streams are never touched: what they say is to arrive
now, and a proxy may not hold it back."""

from __future__ import annotations

import zlib

import trio
from quart import Request, Response
from quart.wrappers.response import DataBody

from gocdnext.api.kept import KeptResponse

SMALLEST = 1024
"""Bytes of a body that is sent as it is."""
LEVEL = 1
"""JSON shrinks to a fifth at this level already; higher ones cost several times the work for little more."""
IN_A_THREAD = 64 * 1024
"""Bytes from which on the work, about a millisecond, is done beside the event loop."""
_GZIP = 31
"""Window bits that ask zlib for the gzip format."""


def tell(response: Response) -> None:
    """Says that the body depends on what the client accepts. Before a 304 takes its place, which says it too (RFC 9110,
    15.4.5)."""
    if _body(response) is not None:
        response.vary.add("Accept-Encoding")


async def finish(request: Request, response: Response) -> None:
    """Compresses the body of an answer that is complete and has no encoding yet."""
    body = _body(response)
    if body is None or request.accept_encodings.quality("gzip") <= 0:
        return
    kept = response.rendered if isinstance(response, KeptResponse) else None
    packed = kept.packed if kept is not None else None
    if packed is None:
        packed = await _packed(body.data)
        if kept is not None:
            kept.packed = packed
    response.set_data(packed)
    response.headers["Content-Encoding"] = "gzip"


def _body(response: Response) -> DataBody | None:
    """What is worth compressing, or None."""
    body = response.response
    if not isinstance(body, DataBody) or len(body.data) <= SMALLEST or "Content-Encoding" in response.headers:
        return None
    return body


async def _packed(data: bytes) -> bytes:
    if len(data) < IN_A_THREAD:
        return _compressed(data)
    return await trio.to_thread.run_sync(_compressed, data)


def _compressed(data: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()
