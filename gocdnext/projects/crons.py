"""Schedules of projects as people keep them (contract-admin 6.5). Firing them is in the materials room."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import ConflictError, InvalidError, NotFoundError
from gocdnext.pipeline import cron

MAX_NAME = 255
MAX_PIPELINES = 100
"""Pipelines that one schedule may name."""
TAKEN = "cron name already exists"

_SQL = queries.load("project_crons")
parsed = functools.lru_cache(maxsize=4096)(cron.parse)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a schedule is to be. Without pipelines it starts every one of the project."""

    name: str
    expression: str
    pipeline_ids: Sequence[UUID]
    enabled: bool | None
    """None: on for a new schedule, as it was for another."""


async def of_project(db: Database, slug: str) -> list[asyncpg.Record]:
    """The schedules of a project, newest first. Raises NotFoundError."""
    rows = await db.fetch(_SQL.of_project, slug)
    if not rows:
        raise NotFoundError("project not found")
    return [row for row in rows if row["id"] is not None]


async def add(
    db: Database, slug: str, wanted: Wanted, *, cron_id: UUID, by: UUID | None, now: datetime, zone: tzinfo
) -> asyncpg.Record:
    """A new schedule, which fires for the first time when its time has come. `zone` is the server's.

    Raises NotFoundError, InvalidError, ConflictError (the name is taken).
    """
    schedule = _checked(wanted)
    project = await _project(db, slug, wanted)
    row = await db.fetchrow(
        _SQL.add,
        cron_id,
        project,
        wanted.name,
        wanted.expression,
        list(wanted.pipeline_ids),
        wanted.enabled is not False,
        schedule.after(now, since=now, zone=zone),
        by,
        now,
    )
    if row is None:
        raise ConflictError(TAKEN)
    return row


async def change(db: Database, slug: str, cron_id: UUID, wanted: Wanted, *, now: datetime, zone: tzinfo) -> bool:
    """Makes a schedule what is wanted; whether it is on then. Another expression counts from now; one that is switched
    on again fires at once if a time of it passed meanwhile. Raises NotFoundError, InvalidError, ConflictError."""
    schedule = _checked(wanted)
    project = await _project(db, slug, wanted)
    found = await db.fetchrow(_SQL.find, cron_id)
    if found is None:
        raise NotFoundError("cron not found")
    if found["project_id"] != project:
        raise NotFoundError("cron does not belong to this project")
    begins = schedule.after(now, since=now, zone=zone)
    chosen = list(wanted.pipeline_ids)
    try:
        enabled: bool | None = await db.fetchval(
            _SQL.change, cron_id, wanted.name, wanted.expression, chosen, wanted.enabled, begins, now
        )
    except asyncpg.UniqueViolationError:
        raise ConflictError(TAKEN) from None
    if enabled is None:
        raise NotFoundError("cron not found")
    return enabled


async def remove(db: Database, slug: str, cron_id: UUID) -> str | None:
    """Takes a schedule away; its name, or None when there is none. Raises NotFoundError (project, or another's)."""
    project = await _project(db, slug, None)
    found = await db.fetchrow(_SQL.find, cron_id)
    if found is None:
        return None
    if found["project_id"] != project:
        raise NotFoundError("cron not found")
    await db.execute(_SQL.remove, cron_id)
    name: str = found["name"]
    return name


def _checked(wanted: Wanted) -> cron.Schedule:
    if not wanted.name:
        raise InvalidError("name is required")
    if len(wanted.name) > MAX_NAME or "\0" in wanted.name:
        raise InvalidError(f"name must be at most {MAX_NAME} characters without NUL bytes")
    if not wanted.expression:
        raise InvalidError("expression is required")
    if len(wanted.pipeline_ids) > MAX_PIPELINES:
        raise InvalidError(f"pipeline_ids names more than {MAX_PIPELINES} pipelines: leave it empty for all of them")
    try:
        return parsed(wanted.expression)
    except ValueError as error:
        raise InvalidError(f"invalid cron expression: {error}") from None


async def _project(db: Database, slug: str, wanted: Wanted | None) -> UUID:
    named = [] if wanted is None else list(wanted.pipeline_ids)
    row = await db.fetchrow(_SQL.project, slug, named)
    if row is None:
        raise NotFoundError("project not found")
    for one in named:
        if one not in row["pipelines"]:
            raise InvalidError(f"pipeline_ids contains unknown pipeline: {one}")
    project: UUID = row["id"]
    return project
