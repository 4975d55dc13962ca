"""Reading projects, runs and agents: rows as the statements give them, few round trips, nothing changed.

What the rows become on the wire is the business of `api.render`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import NotFoundError
from gocdnext.projects.figures import Figures, Week

_PROJECTS = queries.load("projects")
_RUNS = queries.load("runs_read")


PREVIEWS = 20
"""Pipelines of each project that its list shows: the most pressing ones."""


@dataclass(frozen=True, slots=True)
class ProjectList:
    """Projects with previews of their pipelines."""

    projects: list[asyncpg.Record]
    figures: Mapping[UUID, Week]
    """By project."""


@dataclass(frozen=True, slots=True)
class ProjectDetail:
    """One project with its newest runs, and its pipelines."""

    project: asyncpg.Record
    pipelines: list[asyncpg.Record]
    figures: Mapping[UUID, Week]
    """By project and by pipeline."""

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Its newest runs, as JSON has them."""
        return self.project["runs"] or []


@dataclass(frozen=True, slots=True)
class Feed:
    """One page of the runs feed and how many runs there are in all."""

    runs: list[asyncpg.Record]
    total: int


@dataclass(frozen=True, slots=True)
class FeedFilter:
    """What a feed is limited to; None is no limit. `pipeline` is a name, `pipeline_id` the same text read as an id."""

    status: str | None = None
    cause: str | None = None
    project: str | None = None
    pipeline: str | None = None
    pipeline_id: UUID | None = None


async def projects(db: Database, figures: Figures, now: datetime, limit: int | None, offset: int) -> ProjectList:
    """Projects by newest change. One statement."""
    question = (limit, offset)
    known = figures.known(question, now)
    rows = await db.fetch(_PROJECTS.summaries, None, limit, offset, *known.arguments, PREVIEWS, 0)
    return ProjectList(rows, figures.learn(question, known, rows, now))


async def project(db: Database, figures: Figures, slug: str, now: datetime, runs: int) -> ProjectDetail:
    """One project with its `runs` newest runs. Two statements, one crossing. Raises NotFoundError."""
    known = figures.known(slug, now)

    async def work(conn: Connection) -> ProjectDetail:
        row = await conn.fetchrow(_PROJECTS.summaries, slug, 1, 0, *known.arguments, 0, runs)
        if row is None:
            raise NotFoundError("project not found")
        pipelines = await conn.fetch(_PROJECTS.pipelines_of_project, slug, *known.arguments)
        return ProjectDetail(row, pipelines, figures.learn(slug, known, [row, *pipelines], now))

    return await db.run(work)


async def pipeline_source(db: Database, pipeline_id: UUID) -> str:
    """The text a pipeline was applied with. Raises NotFoundError."""
    source: str | None = await db.fetchval(_PROJECTS.pipeline_source, pipeline_id)
    if source is None:
        raise NotFoundError("not found")
    return source


async def feed(db: Database, wanted: FeedFilter, limit: int, offset: int) -> Feed:
    """Runs by newest creation. Two statements, one crossing."""
    by = (wanted.project, wanted.pipeline, wanted.pipeline_id)

    async def work(conn: Connection) -> Feed:
        if wanted.project is None and wanted.pipeline is None:
            rows = await conn.fetch(_RUNS.feed, wanted.status, wanted.cause, limit, offset)
            return Feed(rows, await conn.fetchval(_RUNS.feed_total, wanted.status, wanted.cause))
        rows = await conn.fetch(_RUNS.feed_of_pipelines, wanted.status, wanted.cause, limit, offset, *by)
        return Feed(rows, await conn.fetchval(_RUNS.feed_of_pipelines_total, wanted.status, wanted.cause, *by))

    return await db.run(work)


async def run(db: Database, run_id: UUID) -> asyncpg.Record:
    """One run with its stages and jobs as JSON text. Raises NotFoundError."""
    row = await db.fetchrow(_RUNS.detail, run_id)
    if row is None:
        raise NotFoundError("run not found")
    return row


async def require_run(db: Database, run_id: UUID) -> None:
    """Raises NotFoundError when there is no such run."""
    if not await db.fetchval(_RUNS.run_exists, run_id):
        raise NotFoundError("not found")


async def require_job_of_run(db: Database, run_id: UUID, job_id: UUID) -> None:
    """Raises NotFoundError when the job is not one of that run."""
    if not await db.fetchval(_RUNS.job_of_run_exists, job_id, run_id):
        raise NotFoundError("not found")


async def agents(db: Database, limit: int | None, offset: int) -> list[asyncpg.Record]:
    """Agents by name."""
    return await db.fetch(_RUNS.agents, None, limit, offset)


async def agent(db: Database, agent_id: UUID, jobs: int) -> tuple[asyncpg.Record, list[asyncpg.Record]]:
    """One agent and its `jobs` newest jobs. Two statements, one crossing. Raises NotFoundError."""

    async def work(conn: Connection) -> tuple[asyncpg.Record, list[asyncpg.Record]]:
        row = await conn.fetchrow(_RUNS.agents, agent_id, 1, 0)
        if row is None:
            raise NotFoundError("agent not found")
        return row, await conn.fetch(_RUNS.jobs_of_agent, agent_id, jobs)

    return await db.run(work)
