"""`/api/v1/projects/{slug}/crons`: the schedules of a project (contract-admin 6.5)."""

from __future__ import annotations

from datetime import tzinfo
from functools import cache
from uuid import UUID

import asyncpg
from quart import Blueprint, Response, g

from gocdnext.api import params
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note, unchanged
from gocdnext.api.wire.crons import Cron, CronBody, Crons
from gocdnext.errors import InvalidError
from gocdnext.materials.schedules import server_zone
from gocdnext.projects import crons
from gocdnext.projects.crons import Wanted

blueprint = Blueprint("crons", __name__)


@cache
def _zone() -> tzinfo:
    """The zone of schedules that name none: that of the process, for its whole life."""
    return server_zone()


@route(blueprint, "GET", "/api/v1/projects/<slug>/crons", described=Description(gives=Crons, fails=frozenset({404})))
async def list_crons(slug: str) -> Response:
    """The schedules of a project, newest first."""
    return answer(Crons(crons=[_cron(row) for row in await crons.of_project(services().db, slug)]))


@route(
    blueprint,
    "POST",
    "/api/v1/projects/<slug>/crons",
    Audited("project_cron.create", "project_cron"),
    Description(takes=CronBody, gives=Cron, status=201, fails=frozenset({404, 409})),
)
async def add_cron(slug: str) -> Response:
    """A new schedule. Its first fire is counted from now."""
    here = services()
    wanted = await _wanted(slug)
    by = None if g.subject is None else g.subject.user_id
    cron_id = here.new_id()
    row = await crons.add(here.db, slug, wanted, cron_id=cron_id, by=by, now=here.clock(), zone=_zone())
    note(target=str(cron_id))
    return answer(_cron(row), 201)


@route(
    blueprint,
    "PUT",
    "/api/v1/projects/<slug>/crons/<cron_id>",
    Audited("project_cron.update", "project_cron", "{cron_id}"),
    Description(takes=CronBody, status=204, fails=frozenset({404, 409})),
)
async def change_cron(slug: str, cron_id: str) -> Response:
    """Makes a schedule what is wanted; when it fired last and who made it stay."""
    here = services()
    chosen = params.uuid(cron_id, "invalid cron id")
    wanted = await _wanted(slug)
    note(enabled=await crons.change(here.db, slug, chosen, wanted, now=here.clock(), zone=_zone()))
    return nothing()


@route(
    blueprint,
    "DELETE",
    "/api/v1/projects/<slug>/crons/<cron_id>",
    Audited("project_cron.delete", "project_cron", "{cron_id}"),
    Description(status=204, fails=frozenset({404})),
)
async def remove_cron(slug: str, cron_id: str) -> Response:
    """Takes a schedule away."""
    name = await crons.remove(services().db, slug, params.uuid(cron_id, "invalid cron id"))
    if name is None:
        unchanged()
    else:
        note(slug=slug, name=name)
    return nothing()


async def _wanted(slug: str) -> Wanted:
    body = params.json_object(await params.body(), CronBody)
    wanted = Wanted(body.name.strip(), body.expression.strip(), _pipelines(body), body.enabled)
    note(slug=slug, name=wanted.name[: crons.MAX_NAME], expression=wanted.expression[:256])
    return wanted


def _pipelines(body: CronBody) -> tuple[UUID, ...]:
    found = []
    for text in body.pipeline_ids or ():
        one = params.parse_uuid(text)
        if one is None:
            raise InvalidError(f"pipeline_ids contains invalid uuid: {text[:64]}")
        found.append(one)
    return tuple(dict.fromkeys(found))


def _cron(row: asyncpg.Record) -> Cron:
    return Cron(
        id=str(row["id"]),
        project_id=str(row["project_id"]),
        name=row["name"],
        expression=row["expression"],
        pipeline_ids=[str(one) for one in row["pipeline_ids"]],
        enabled=row["enabled"],
        last_fired_at=utc_or_none(row["last_fired_at"]),
        next_at=utc_or_none(row["next_at"]),
        created_by=None if row["created_by"] is None else str(row["created_by"]),
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
    )
