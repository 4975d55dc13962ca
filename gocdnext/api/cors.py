"""CORS as contract-runs 0.5 has it: every answer carries it, and any OPTIONS is 204 before anything else is asked."""

from __future__ import annotations

from quart import Request, Response

from gocdnext.api.respond import nothing

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
    headers["Access-Control-Allow-Origin"] = origin or "*"
    if origin:
        headers.add("Vary", "Origin")
        headers["Access-Control-Allow-Credentials"] = "true"
    headers["Access-Control-Allow-Methods"] = METHODS
    headers["Access-Control-Allow-Headers"] = HEADERS
    headers["Access-Control-Expose-Headers"] = EXPOSED
