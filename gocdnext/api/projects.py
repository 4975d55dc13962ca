"""`/api/v1/projects`: list, detail, apply, delete, starting all pipelines (contract-runs 2)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta
from quart import Blueprint, Response, g, request

from gocdnext.api import explained, params, query, render, wire
from gocdnext.api.context import services
from gocdnext.api.forges import webhook_result
from gocdnext.api.kept import Fresh
from gocdnext.api.respond import answer
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.projects import apply as applying
from gocdnext.projects import delete, poll_interval, read, run_all
from gocdnext.projects.request import ApplyBody, ApplyRequest, from_body, from_form

blueprint = Blueprint("projects", __name__)

_EXAMPLE = {
    "slug": "billing",
    "files": [
        {
            "name": "ci.yaml",
            "content": "name: ci\nmaterials: [{manual: true}]\nstages: [build]\n"
            "jobs: {compile: {stage: build, script: [make]}}\n",
        }
    ],
}


class ProjectQuery(msgspec.Struct):
    runs: Annotated[int, Meta(ge=1, le=100, description="How many of its newest runs.")] = 25


@route(blueprint, "GET", "/api/v1/projects", described=Description(asks=query.Paged, gives=wire.Projects))
async def list_projects() -> Response:
    """All projects by newest change (2.1)."""
    here = services()
    page = query.asked(query.Paged)

    async def reading() -> Fresh:
        found = await read.projects(here.db, here.figures, here.clock(), page.limit, page.offset)
        return Fresh(render.project_list(found))

    return await here.kept.answer(("projects", page.limit, page.offset), reading)


@route(blueprint, "GET", "/api/v1/projects/<slug>", described=Description(asks=ProjectQuery, gives=wire.ProjectDetail))
async def show_project(slug: str) -> Response:
    """One project with its pipelines and newest runs (2.2)."""
    here = services()
    runs = query.asked(ProjectQuery).runs
    reader = g.subject

    async def reading() -> Fresh:
        found = await read.project(here.db, here.figures, slug, here.clock(), runs)
        newest = [(row["run_id"], row["open_jobs"]) for row in found.pipelines]
        listed = newest + [(UUID(run["id"]), run["open_jobs"]) for run in found.runs]
        reasons, lasts = await explained.reasons_of(listed, "project_detail")
        return Fresh(render.project_detail(found, reasons, reader), lasts=lasts)

    return await here.kept.answer(("project", slug, runs, render.may_see_credentials(reader)), reading)


@route(
    blueprint,
    "POST",
    "/api/v1/projects/apply",
    Audited("project.apply", "project"),
    described=Description(
        takes=ApplyBody,
        forms={"multipart/form-data": wire.ApplyForm},
        sends=_EXAMPLE,
        gives=wire.Applied,
        fails=frozenset({409, 422, 502}),
    ),
)
async def apply() -> Response:
    """Makes a project what the request says (2.4). JSON unless it is a form."""
    here = services()
    wanted = await _apply_request()
    note(target=wanted.slug)
    result = await applying.apply(
        here.db,
        wanted,
        now=here.clock(),
        new_id=here.new_id,
        remotes=here.configs.remotes,
        catalogue=here.catalogue,
        keyring=here.keyring,
    )
    if wanted.scm_source is not None:
        await here.access.changed()
    stored = result.stored
    note(project_created=stored.created, pipelines=len(stored.pipelines), pipelines_removed=len(stored.removed))
    message = render.applied(wanted.slug, result)
    if stored.source is not None:
        renewed = bool(stored.source.generated_secret or (wanted.scm_source and wanted.scm_source.webhook_secret))
        hook = await here.forges.registration.register(stored.source.id, renewed=renewed)
        message.webhooks = [] if hook is None else [webhook_result(hook)]
    return answer(message)


@route(
    blueprint,
    "DELETE",
    "/api/v1/projects/<slug>",
    Audited("project.delete", "project", "{slug}"),
    described=Description(gives=wire.DeletedProject),
)
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


@route(
    blueprint,
    "POST",
    "/api/v1/projects/<slug>/run-all",
    Audited("project.run_all", "project", "{slug}"),
    described=Description(gives=wire.RunAll, status=202),
)
async def run_all_pipelines(slug: str) -> Response:
    """Starts a run of each pipeline (2.7)."""
    here = services()
    by = "" if g.subject is None else g.subject.email
    fired = await run_all.run_all(here.db, here.runs, slug, by, clock=here.clock, ask=here.configs.remotes.heads)
    note(slug=slug, fired=sum(one.run_id is not None for one in fired), total=len(fired))
    results = [
        wire.Fired(
            pipeline_id=str(one.pipeline_id), run_id=None if one.run_id is None else str(one.run_id), error=one.error
        )
        for one in fired
    ]
    return answer(wire.RunAll(results=results, run_ids=[one.run_id for one in results if one.run_id]), 202)


@route(
    blueprint,
    "PUT",
    "/api/v1/projects/<slug>/poll-interval",
    Audited("project_poll.set", "project", "{slug}"),
    described=Description(
        takes=wire.PollIntervalBody, sends={"interval": "5m"}, gives=wire.PollInterval, fails=frozenset({409})
    ),
)
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
