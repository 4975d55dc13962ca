"""Line coverage of jobs: one report per job, a later one takes the place of an earlier (protocol-agent 2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.reports.testing import Attempt
from gocdnext.reports.text import clean

MAX_PACKAGES = 200
"""Packages of a report that are kept, the first ones: agents send the worst covered first (protocol-agent 3.13)."""
MAX_NAME = 1024
MAX_FORMAT = 64
"""Bytes."""

_SQL = queries.load("reports")


@dataclass(frozen=True, slots=True)
class Lines:
    """How many lines there are and how many of them ran; `name` is a package's, or empty for the whole."""

    covered: int
    total: int
    name: str = ""

    @property
    def possible(self) -> bool:
        """Whether there can be such numbers."""
        return 0 <= self.covered <= self.total


async def replace(
    db: Database, attempt: Attempt, kind: str, whole: Lines, packages: Sequence[Lines], now: datetime
) -> bool:
    """Keeps the coverage of a job; False when the attempt is not the agent's any more.

    `whole` must be possible; packages that are not are left out one by one.
    """
    kept = [
        {"name": clean(package.name, MAX_NAME), "lines_covered": package.covered, "lines_total": package.total}
        for package in packages
        if package.possible
    ][:MAX_PACKAGES]
    stored = await db.fetchval(
        _SQL.replace_coverage,
        attempt.job_id,
        attempt.agent_id,
        attempt.attempt,
        now,
        clean(kind, MAX_FORMAT),
        whole.covered,
        whole.total,
        kept,
    )
    return stored is not None


async def of_run(db: Database, run_id: UUID, limit: int | None, offset: int) -> list[asyncpg.Record]:
    """The coverage of a run's jobs by name and matrix key, each with its baseline; none for an unknown run."""
    return await db.fetch(_SQL.coverage_of_run, run_id, limit, offset)


async def trend(db: Database, pipeline_id: UUID, limit: int) -> list[asyncpg.Record]:
    """The newest `limit` points of each job and matrix key of a pipeline, newest first."""
    return await db.fetch(_SQL.coverage_trend, pipeline_id, limit)
