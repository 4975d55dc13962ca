"""`/healthz`, `/readyz`, `/version`, `/metrics`: public, text unless the client asks for JSON (contract-runs 10)."""

from __future__ import annotations

from quart import Blueprint, Response, request

import gocdnext
from gocdnext.api import wire
from gocdnext.api.context import services
from gocdnext.api.respond import JSON, answer, prefers, text
from gocdnext.api.routing import Answer, Description, route

blueprint = Blueprint("health", __name__)

TEXT = "text/plain; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
READY_WITHIN = 5.0
"""Seconds that the database may take to answer before the server counts as not ready."""


@route(
    blueprint,
    "GET",
    "/healthz",
    described=Description(gives=str, media=TEXT, also=(Answer(gives=wire.Health),), example="ok"),
)
async def healthz() -> Response:
    """The process is up; asks nothing else."""
    return _state("ok")


@route(
    blueprint,
    "GET",
    "/readyz",
    described=Description(gives=str, media=TEXT, also=(Answer(gives=wire.Health),), example="ready"),
)
async def readyz() -> Response:
    """The database answers. Its migrations are done: the server listens only after them (design 3).

    A disk that gets full does not end this: people have to reach the server to make room. JSON says so.
    """
    here = services()
    if here.shutdown.is_set():
        return answer(wire.Error(error="shutting down"), 503)
    try:
        await here.db.ping(READY_WITHIN)
    except Exception as error:
        return answer(wire.Error(error=f"db unavailable: {error}"), 503)
    return _state("ready")


@route(
    blueprint,
    "GET",
    "/version",
    described=Description(gives=str, media=TEXT, also=(Answer(gives=wire.Version),), example="gocdnext-server 1.0.0\n"),
)
async def version() -> Response:
    """Which program this is; commit and date are those the build recorded, empty in a checkout."""
    if prefers(request, (JSON,), "text/plain") is None:
        return text(f"gocdnext-server {gocdnext.__version__}\n")
    commit, date = getattr(gocdnext, "__commit__", ""), getattr(gocdnext, "__build_date__", "")
    return answer(wire.Version(version=gocdnext.__version__, commit=commit, build_date=date))


@route(
    blueprint,
    "GET",
    "/metrics",
    described=Description(
        gives=str, media="text/plain; version=0.0.4; charset=utf-8", also=(Answer(gives=str, media=OPEN_METRICS),)
    ),
)
async def metrics() -> Response:
    """Prometheus text, OpenMetrics when asked for."""
    here = services()
    body, content_type = await here.metrics.exposition(here.db, request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)


def _state(word: str) -> Response:
    if prefers(request, (JSON,), "text/plain") is None:
        return text(word)
    level = services().disks.level
    return answer(wire.Health(status=word, disk=level.word if level else ""))
