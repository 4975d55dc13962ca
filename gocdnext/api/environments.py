"""Freezing and unfreezing environments of a project (spec-execution 10). The addresses are ours."""

from __future__ import annotations

from quart import Blueprint, Response, g

from gocdnext.api import params, wire
from gocdnext.api.context import services
from gocdnext.api.routing import route
from gocdnext.errors import NotFoundError
from gocdnext.runs.environments import Environments

blueprint = Blueprint("environments", __name__)


@route(blueprint, "PUT", "/api/v1/projects/<slug>/environments/<name>/freeze")
async def freeze(slug: str, name: str) -> Response:
    """Freezes an environment, which need not exist yet; a second time changes reason and actor."""
    body = await params.optional_body(wire.FreezeBody)
    actor = (g.subject.email or g.subject.name) if g.subject is not None else body.user or "anonymous"
    await _environments().freeze(slug, name, body.reason.replace("\0", ""), actor.replace("\0", ""))
    return _done()


@route(blueprint, "DELETE", "/api/v1/projects/<slug>/environments/<name>/freeze")
async def unfreeze(slug: str, name: str) -> Response:
    """Lets an environment go; runs that it held are looked at again."""
    if not await _environments().unfreeze(slug, name):
        raise NotFoundError("the environment is not frozen, or there is no such project")
    return _done()


def _environments() -> Environments:
    here = services()
    return Environments(here.db, here.runs, clock=here.clock)


def _done() -> Response:
    response = Response(b"", 204)
    del response.headers["Content-Type"]
    return response
