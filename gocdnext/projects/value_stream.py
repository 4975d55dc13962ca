"""The value stream of a project (contract-runs 2.3): its pipelines, what starts what, and how long it waits in between.

Rows as the statements give them; what they become on the wire is the business of `api.render`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import NotFoundError
from gocdnext.projects.figures import WINDOW, Figures, Week

_PROJECTS = queries.load("projects")
_SQL = queries.load("value_stream")


class Wait(NamedTuple):
    """Between the end of a run and the start of the run that it started: seconds, the median of so many samples."""

    p50_seconds: float
    samples: int


@dataclass(frozen=True, slots=True)
class ValueStream:
    """A project's pipelines by name. `sources`, `figures` by pipeline; `waits` by upstream and downstream pipeline."""

    project: asyncpg.Record
    pipelines: list[asyncpg.Record]
    sources: Mapping[UUID, asyncpg.Record]
    figures: Mapping[UUID, Week]
    waits: Mapping[tuple[UUID, UUID], Wait]


async def value_stream(db: Database, figures: Figures, slug: str, now: datetime) -> ValueStream:
    """The value stream of the project `slug`. Four statements, one crossing. Raises NotFoundError."""
    question = ("value stream", slug)
    known = figures.known(question, now)

    async def work(conn: Connection) -> ValueStream:
        project = await conn.fetchrow(_SQL.project, slug)
        if project is None:
            raise NotFoundError("project not found")
        pipelines = await conn.fetch(_PROJECTS.pipelines_of_project, slug, *known.arguments)
        sources = await conn.fetch(_SQL.sources, project["id"])
        waits = await conn.fetch(_SQL.waits, project["id"], now - WINDOW)
        described = {row["id"]: row for row in sources}
        return ValueStream(
            project=project,
            # A pipeline that came or went between the statements is whole in the next answer.
            pipelines=[row for row in pipelines if row["id"] in described],
            sources=described,
            figures=figures.learn(question, known, pipelines, now),
            waits={(row["from_id"], row["to_id"]): Wait(row["p50_seconds"], row["samples"]) for row in waits},
        )

    return await db.run(work)
