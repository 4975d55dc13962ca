"""Environments of a project: what is deployed, freezing, going back (spec-execution 10, 11)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Meta
from quart import Blueprint, Response, g

from gocdnext.api import params, query, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.errors import NotFoundError
from gocdnext.runs.environments import Environments

blueprint = Blueprint("environments", __name__)


class DeploymentQuery(msgspec.Struct):
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    offset: Annotated[int, Meta(ge=0, le=params.INT32)] = 0


@route(blueprint, "GET", "/api/v1/projects/<slug>/environments", described=Description(gives=wire.Environments))
async def list_environments(slug: str) -> Response:
    """The environments of a project, what each has now, and which are frozen."""
    return answer(wire.Environments(environments=[_environment(row) for row in await _environments().overview(slug)]))


@route(
    blueprint,
    "GET",
    "/api/v1/projects/<slug>/environments/<name>/deployments",
    described=Description(asks=DeploymentQuery, gives=wire.Deployments),
)
async def list_deployments(slug: str, name: str) -> Response:
    """Deployments to an environment, newest first."""
    asked = query.asked(DeploymentQuery)
    rows = await _environments().deployments(slug, name, asked.limit, asked.offset)
    found = [_deployment(row) for row in rows]
    return answer(wire.Deployments(deployments=found, limit=asked.limit, offset=asked.offset))


@route(
    blueprint,
    "POST",
    "/api/v1/projects/<slug>/environments/<name>/rollback",
    Audited("deploy.rollback", "environment", "{slug}:{name}"),
    described=Description(
        takes=wire.RollbackBody, optional=True, gives=wire.Redeployed, status=202, fails=frozenset({409})
    ),
)
async def rollback(slug: str, name: str) -> Response:
    """Deploys an earlier deployment again, by the job that made it; without one the newest that succeeded."""
    body = await params.optional_body(wire.RollbackBody)
    deployment = params.uuid(body.deployment_id, "invalid deployment id") if body.deployment_id else None
    note(slug=slug, to_revision_id=None if deployment is None else str(deployment))
    made = await _environments().repeat(slug, name, deployment)
    note(rerun_job_run_id=str(made.job_id), is_rollback=made.is_rollback)
    message = wire.Redeployed(
        job_run_id=str(made.job_id), run_id=str(made.run_id), attempt=made.attempt, is_rollback=made.is_rollback
    )
    return answer(message, 202)


@route(
    blueprint,
    "PUT",
    "/api/v1/projects/<slug>/environments/<name>/freeze",
    Audited("environment.freeze", "environment", "{slug}:{name}"),
    described=Description(takes=wire.FreezeBody, optional=True, status=204),
)
async def freeze(slug: str, name: str) -> Response:
    """Freezes an environment, which need not exist yet; a second time changes reason and actor."""
    body = await params.optional_body(wire.FreezeBody)
    actor = (g.subject.email or g.subject.name) if g.subject is not None else body.user or "anonymous"
    reason = body.reason.replace("\0", "")
    note(slug=slug, reason=reason)
    project_id = await _environments().freeze(slug, name, reason, actor.replace("\0", ""))
    note(target=f"{project_id}:{name}")
    return nothing()


@route(
    blueprint,
    "DELETE",
    "/api/v1/projects/<slug>/environments/<name>/freeze",
    Audited("environment.unfreeze", "environment", "{slug}:{name}"),
    described=Description(status=204),
)
async def unfreeze(slug: str, name: str) -> Response:
    """Lets an environment go; runs that it held are looked at again."""
    note(slug=slug)
    project_id = await _environments().unfreeze(slug, name)
    if project_id is None:
        raise NotFoundError("the environment is not frozen, or there is no such project")
    note(target=f"{project_id}:{name}")
    return nothing()


def _environments() -> Environments:
    here = services()
    return Environments(here.db, here.runs, clock=here.clock)


def _environment(row: asyncpg.Record) -> wire.Environment:
    freeze = None
    if row["frozen_at"] is not None:
        freeze = wire.Freeze(reason=row["frozen_reason"], frozen_by=row["frozen_by"], frozen_at=utc(row["frozen_at"]))
    return wire.Environment(
        name=row["name"],
        total_deploys=row["total_deploys"],
        current=_version(row["current_id"], row["current_version"], utc_or_none(row["current_since"])),
        in_progress=_version(row["pending_id"], row["pending_version"]),
        freeze=freeze,
    )


def _version(deployment: UUID | None, version: str, since: str | None = None) -> wire.EnvironmentVersion | None:
    if deployment is None:
        return None
    return wire.EnvironmentVersion(deployment_id=str(deployment), version=version, since=since)


def _deployment(row: asyncpg.Record) -> wire.Deployment:
    return wire.Deployment(
        id=str(row["id"]),
        version=row["version"],
        status=row["status"],
        is_rollback=row["is_rollback"],
        attempt=row["attempt"],
        created_at=utc(row["created_at"]),
        revision=row["revision"],
        deployed_by=row["deployed_by"],
        finished_at=utc_or_none(row["finished_at"]),
        run_id=str(row["run_id"]) if row["run_id"] else None,
        job_run_id=str(row["job_run_id"]) if row["job_run_id"] else None,
        pipeline_name=row["pipeline_name"] or "",
        counter=row["counter"] or 0,
    )
