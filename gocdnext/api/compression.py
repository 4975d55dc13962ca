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


async def finish(request: Request, response: Response) -> None:
    """Compresses the body of an answer that is complete and has no encoding yet."""
    body = response.response
    if not isinstance(body, DataBody) or len(body.data) <= SMALLEST or "Content-Encoding" in response.headers:
        return
    response.vary.add("Accept-Encoding")
    if request.accept_encodings.quality("gzip") <= 0:
        return
    kept = response.rendered if isinstance(response, KeptResponse) else None
    packed = kept.packed if kept is not None else None
    if packed is None:
        packed = await _packed(body.data)
        if kept is not None:
            kept.packed = packed
    response.set_data(packed)
    response.headers["Content-Encoding"] = "gzip"


async def _packed(data: bytes) -> bytes:
    if len(data) < IN_A_THREAD:
        return _compressed(data)
    return await trio.to_thread.run_sync(_compressed, data)


def _compressed(data: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()
