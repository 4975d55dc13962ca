"""`/api/v1/projects`: list, detail, apply (contract-runs 2)."""

from __future__ import annotations

from quart import Blueprint, Response, g, request

from gocdnext.api import params, render
from gocdnext.api.context import services
from gocdnext.api.respond import answer
from gocdnext.api.routing import route
from gocdnext.projects import apply as applying
from gocdnext.projects import read
from gocdnext.projects.request import ApplyBody, ApplyRequest, from_body, from_form

blueprint = Blueprint("projects", __name__)

DEFAULT_RUNS = 25
MAX_RUNS = 100


@route(blueprint, "GET", "/api/v1/projects")
async def list_projects() -> Response:
    """All projects by newest change (2.1)."""
    here = services()
    limit, offset = params.page()
    return answer(render.project_list(await read.projects(here.db, here.figures, here.clock(), limit, offset)))


@route(blueprint, "GET", "/api/v1/projects/<slug>")
async def show_project(slug: str) -> Response:
    """One project with its pipelines and newest runs (2.2)."""
    here = services()
    runs = params.whole("runs", DEFAULT_RUNS, low=1, high=MAX_RUNS)
    found = await read.project(here.db, here.figures, slug, here.clock(), runs)
    return answer(render.project_detail(found, g.subject))


@route(blueprint, "POST", "/api/v1/projects/apply")
async def apply() -> Response:
    """Makes a project what the request says (2.4). JSON unless it is a form."""
    here = services()
    wanted = await _apply_request()
    result = await applying.apply(
        here.db, wanted, now=here.clock(), new_id=here.new_id, catalogue=here.catalogue, keyring=here.keyring
    )
    return answer(render.applied(wanted.slug, result))


async def _apply_request() -> ApplyRequest:
    data = await params.body()
    if request.mimetype != "multipart/form-data":
        return from_body(params.json_object(data, ApplyBody))
    return from_form(data, request.mimetype_params.get("boundary", "").encode("ascii", "replace"))
