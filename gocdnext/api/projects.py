"""`/api/v1/projects`: list, detail, apply, delete, starting all pipelines (contract-runs 2)."""

from __future__ import annotations

from quart import Blueprint, Response, g, request

from gocdnext.api import explained, params, render, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer
from gocdnext.api.routing import route
from gocdnext.api.trail import Audited, note
from gocdnext.projects import apply as applying
from gocdnext.projects import delete, poll_interval, read, run_all
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
    listed = [(row["run_id"], row) for row in found.pipelines] + [(row["id"], row) for row in found.runs]
    return answer(render.project_detail(found, await explained.reasons_of(listed), g.subject))


@route(blueprint, "POST", "/api/v1/projects/apply", Audited("project.apply", "project"))
async def apply() -> Response:
    """Makes a project what the request says (2.4). JSON unless it is a form."""
    here = services()
    wanted = await _apply_request()
    note(target=wanted.slug)
    result = await applying.apply(
        here.db, wanted, now=here.clock(), new_id=here.new_id, catalogue=here.catalogue, keyring=here.keyring
    )
    stored = result.stored
    note(project_created=stored.created, pipelines=len(stored.pipelines), pipelines_removed=len(stored.removed))
    return answer(render.applied(wanted.slug, result))


@route(blueprint, "DELETE", "/api/v1/projects/<slug>", Audited("project.delete", "project", "{slug}"))
async def delete_project(slug: str) -> Response:
    """Removes a project with its whole history (2.6)."""
    here = services()
    gone = await delete.delete(here.db, here.runs, slug)
    for _ in range(gone.stopped):
        here.metrics.job_left()
    note(
        pipelines_deleted=gone.pipelines,
        runs_deleted=gone.runs,
        secrets_deleted=gone.secrets,
        scm_sources_deleted=gone.scm_sources,
    )
    message = wire.DeletedProject(
        slug=slug,
        pipelines_deleted=gone.pipelines,
        runs_deleted=gone.runs,
        secrets_deleted=gone.secrets,
        scm_sources_deleted=gone.scm_sources,
    )
    return answer(message)


@route(blueprint, "POST", "/api/v1/projects/<slug>/run-all", Audited("project.run_all", "project", "{slug}"))
async def run_all_pipelines(slug: str) -> Response:
    """Starts a run of each pipeline (2.7)."""
    here = services()
    by = "" if g.subject is None else g.subject.email
    fired = await run_all.run_all(here.db, here.runs, slug, by, clock=here.clock)
    note(slug=slug, fired=sum(one.run_id is not None for one in fired), total=len(fired))
    results = [
        wire.Fired(
            pipeline_id=str(one.pipeline_id), run_id=None if one.run_id is None else str(one.run_id), error=one.error
        )
        for one in fired
    ]
    return answer(wire.RunAll(results=results, run_ids=[one.run_id for one in results if one.run_id]), 202)


@route(blueprint, "PUT", "/api/v1/projects/<slug>/poll-interval", Audited("project_poll.set", "project", "{slug}"))
async def set_poll_interval(slug: str) -> Response:
    """How often the project's repository is polled (contract-admin 6.2)."""
    here = services()
    wanted = params.json_object(await params.body(), wire.PollIntervalBody)
    kept = await poll_interval.set_poll_interval(here.db, slug, wanted.interval, here.clock())
    note(slug=slug, interval=kept)
    return answer(wire.PollInterval(interval=kept, enabled=bool(kept)))


async def _apply_request() -> ApplyRequest:
    data = await params.body()
    if request.mimetype != "multipart/form-data":
        return from_body(params.json_object(data, ApplyBody))
    return from_form(data, request.mimetype_params.get("boundary", "").encode("ascii", "replace"))
