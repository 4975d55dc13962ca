"""Conditional GET: what a client has already is not sent again (RFC 9110, 13.1.2).

The tag is a hash of the body, so an answer is made anew each time and only its way is saved. It is a weak one, because
the same body may be sent compressed. Streams, texts that say `no-store` and errors have none.
"""

from __future__ import annotations

from hashlib import blake2b

from quart import Request, Response
from quart.wrappers.response import DataBody

from gocdnext.api.respond import JSON

LARGEST = 4 * 1024 * 1024
"""Bytes of a body that is tagged: hashing one takes the server's only thread a few milliseconds."""
_KEPT = "private, no-cache"
"""A client may keep it for itself, and asks each time whether it is still so."""


def finish(request: Request, response: Response) -> None:
    """Tags a JSON answer of GET, and makes it a 304 without a body when the client has it."""
    body = response.response
    if request.method != "GET" or response.status_code != 200 or not isinstance(body, DataBody):
        return
    if response.mimetype != JSON or len(body.data) > LARGEST or response.cache_control.no_store:
        return
    tag = blake2b(body.data, digest_size=16).hexdigest()
    response.set_etag(tag, weak=True)
    response.headers.setdefault("Cache-Control", _KEPT)
    if request.if_none_match.contains_weak(tag):
        response.set_data(b"")
        response.status_code = 304
        for name in ("Content-Type", "Content-Length"):
            response.headers.pop(name, None)
