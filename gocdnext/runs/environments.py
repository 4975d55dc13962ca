"""Environments: what is deployed where, freezing, and going back to an earlier deployment (spec-execution 10, 11).

Nothing is deployed into a frozen one, and nobody approves the way there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import ConflictError, InvalidError, NotFoundError
from gocdnext.runs.service import RerunJob

_SQL = queries.load("environments")
_PROJECTS = queries.load("projects")
MAX_NAME, MAX_REASON, MAX_ACTOR = 64, 500, 320


class Runs(Protocol):
    """The part of the run service that environments need."""

    async def release(self, run_id: UUID, environment: str) -> None:
        """The environment no longer holds this run."""

    async def rerun_job(self, job_id: UUID, *, rollback: bool = False) -> RerunJob:
        """Runs a finished job again. Raises NotFoundError, ConflictError."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """A deployment that is made again: by which attempt of which job."""

    job_id: UUID
    run_id: UUID
    attempt: int
    is_rollback: bool


class Environments:
    """Freezes of a project's environments. An environment need not exist to be frozen."""

    def __init__(self, db: Database, runs: Runs, *, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._runs = runs
        self._clock = clock

    async def freeze(self, slug: str, name: str, reason: str, by: str) -> UUID:
        """Freezes, and says in which project; a second freeze changes reason and actor. Raises InvalidError,
        NotFoundError."""
        for what, text, limit in (
            ("environment", name, MAX_NAME),
            ("reason", reason, MAX_REASON),
            ("actor", by, MAX_ACTOR),
        ):
            if not text.strip() or len(text) > limit:
                raise InvalidError(f"{what}: between 1 and {limit} characters are needed")

        async def work(conn: Connection) -> UUID | None:
            await conn.execute(_SQL.lock_freezes, slug)
            project_id: UUID | None = await conn.fetchval(_SQL.freeze, slug, name, reason, by, self._clock())
            return project_id

        project_id = await self._db.transaction(work)
        if project_id is None:
            raise NotFoundError("project not found")
        return project_id

    async def overview(self, slug: str) -> list[asyncpg.Record]:
        """A project's environments by name. Raises NotFoundError."""
        return await self._db.fetch(_SQL.environments_of_project, await self._project(slug))

    async def deployments(self, slug: str, name: str, limit: int, offset: int) -> list[asyncpg.Record]:
        """Deployments to an environment, newest first. Raises NotFoundError."""
        return await self._db.fetch(_SQL.deployments_of_environment, await self._project(slug), name, limit, offset)

    async def repeat(self, slug: str, name: str, deployment_id: UUID | None) -> Repeated:
        """Deploys again what was deployed before, by the job that did it: a rollback, or (None, or the newest success)
        a redeploy. Raises NotFoundError, ConflictError for one that did not succeed, whose run is gone or active, or whose
        environment is frozen."""
        row = await self._db.fetchrow(_SQL.deployment_to_repeat, await self._project(slug), name, deployment_id)
        if row is None:
            raise NotFoundError("deployment not found")
        if row["frozen"]:
            raise ConflictError(f"environment {name} is frozen")
        if row["status"] != "success":
            raise ConflictError(f"this deployment is {row['status']}: only one that succeeded can be made again")
        if row["job_run_id"] is None:
            raise ConflictError("the run of this deployment was deleted")
        made = await self._runs.rerun_job(row["job_run_id"], rollback=not row["newest"])
        return Repeated(row["job_run_id"], made.run_id, made.attempt, not row["newest"])

    async def _project(self, slug: str) -> UUID:
        project_id: UUID | None = await self._db.fetchval(_PROJECTS.id_of_slug, slug)
        if project_id is None:
            raise NotFoundError("project not found")
        return project_id

    async def unfreeze(self, slug: str, name: str) -> UUID | None:
        """Lets the environment go, and says of which project; None when it was not frozen. Runs that it held are looked at
        again.

        Gates behind it start their clock anew: a freeze must not use up the time people have to decide.
        """

        async def work(conn: Connection) -> tuple[UUID | None, list[UUID]]:
            await conn.execute(_SQL.lock_freezes, slug)
            project_id = await conn.fetchval(_SQL.unfreeze, slug, name)
            if project_id is None:
                return None, []
            return project_id, [row["id"] for row in await conn.fetch(_SQL.held_runs, project_id, name)]

        project_id, held = await self._db.transaction(work)
        for run_id in held:
            await self._runs.release(run_id, name)
        return project_id
