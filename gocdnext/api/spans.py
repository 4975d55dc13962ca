"""A request as a span, where tracing is on: its route, its status, and who sent it on (`traceparent`). Never its path, which
may be a signed link, nor its query.
"""

from __future__ import annotations

from quart import Request, g
from quart.typing import ResponseTypes

from gocdnext.tracing import doing

FAILED = 500
_UNKNOWN = "unknown"


def of(request: Request) -> doing:
    """The block in which a request is answered. Streams go on behind it."""
    route = request.url_rule.rule if request.url_rule is not None else _UNKNOWN
    ids = {"http.request.method": request.method, "http.route": route}
    return doing(f"{request.method} {route}", {"traceparent": request.headers.get("traceparent", "")}, **ids)


def finish(block: doing, response: ResponseTypes) -> None:
    """What is known at the end."""
    block.learned(request_id=g.get("request_id", ""))
    if block.span is not None:
        block.span.set_attribute("http.response.status_code", response.status_code)
        if response.status_code >= FAILED:
            block.span.set_attribute("error.type", str(response.status_code))
