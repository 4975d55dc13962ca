"""Conditional GET: what a client has already is not sent again (RFC 9110, 13.1.2).

The tag is a hash of the body, so it needs nothing to be told of changes. It is a weak one, because
the same body may be sent compressed. Streams, texts that say `no-store` and errors have none.
"""

from __future__ import annotations

from hashlib import blake2b

from quart import Request, Response
from quart.wrappers.response import DataBody

from gocdnext.api.kept import TAGGED, KeptResponse
from gocdnext.api.respond import JSON

_KEPT = "private, no-cache"
"""A client may keep it for itself, and asks each time whether it is still so."""


def finish(request: Request, response: Response) -> None:
    """Tags a JSON answer of GET, and makes it a 304 without a body when the client has it."""
    body = response.response
    if request.method != "GET" or response.status_code != 200 or not isinstance(body, DataBody):
        return
    if response.mimetype != JSON or len(body.data) > TAGGED or response.cache_control.no_store:
        return
    tag = response.rendered.tag if isinstance(response, KeptResponse) else _tag(body.data)
    response.set_etag(tag, weak=True)
    response.headers.setdefault("Cache-Control", _KEPT)
    if request.if_none_match.contains_weak(tag):
        response.set_data(b"")
        response.status_code = 304
        for name in ("Content-Type", "Content-Length"):
            response.headers.pop(name, None)


def _tag(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()
