"""Every request has an id: the caller's, if it sent a sane one, else one of ours. It is in the answer and in every line
that the server logs while it handles the request."""

from __future__ import annotations

import re
from uuid import uuid4

import structlog
from quart import Request, Response, g

HEADER = "X-Request-Id"
_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def begin(request: Request) -> None:
    """Settles the id of this request. Its task is its own, so the log's context ends with it."""
    said = request.headers.get(HEADER, "")
    g.request_id = said if _SANE.fullmatch(said) else uuid4().hex
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def finish(response: Response) -> None:
    """Tells the caller."""
    response.headers[HEADER] = g.request_id
