"""CORS (contract-runs 0.5, contract-admin 0.3): every answer carries it, and any OPTIONS is 204 before anything is asked.

Scripts of related origins may read what rests on the cookie; scripts of all others what anybody may read without one.
"""

from __future__ import annotations

from quart import Request, Response

from gocdnext.api.context import services
from gocdnext.api.respond import nothing
from gocdnext.auth.origin import is_related

METHODS = "GET, POST, PUT, DELETE, OPTIONS"
HEADERS = (
    "Content-Type, X-GitHub-Event, X-GitHub-Delivery, X-Hub-Signature-256, Authorization, Last-Event-ID, If-None-Match, "
    "X-Request-Id"
)
EXPOSED = "ETag, X-Gocdnext-Signaled-Jobs, X-Request-Id, X-Total-Count"
"""Headers of an answer that scripts of another origin may read."""


def preflight() -> Response:
    """The answer to OPTIONS."""
    return nothing()


def allow(request: Request, response: Response) -> None:
    """Adds the headers to an answer."""
    headers = response.headers
    origin = request.headers.get("Origin")
    headers["Access-Control-Allow-Origin"] = "*"
    if origin:
        headers.add("Vary", "Origin")
        if is_related(origin=origin, host=request.headers.get("Host", ""), public_base=services().settings.public_base):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
    headers["Access-Control-Allow-Methods"] = METHODS
    headers["Access-Control-Allow-Headers"] = HEADERS
    headers["Access-Control-Expose-Headers"] = EXPOSED
