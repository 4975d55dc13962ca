"""Test cases of jobs: one batch per job, a later one takes the place of an earlier (protocol-agent 2.5, contract-runs 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import NotFoundError
from gocdnext.reports.text import clean

STATUSES = frozenset({"passed", "failed", "skipped", "errored"})
MAX_CASES = 50_000
"""Cases of one batch that are kept, the first ones."""
MAX_NAME = 1024
"""Bytes of a suite, class or case name."""
MAX_TEXT = 64 * 1024
"""Bytes of a failure's texts and of captured output."""
MAX_DURATION = 2**53
"""Milliseconds; what JSON numbers hold."""

_SQL = queries.load("reports")
_RUNS = queries.load("runs_read")


@dataclass(frozen=True, slots=True)
class Attempt:
    """The attempt of a job that a report speaks of, and the agent that has it."""

    job_id: UUID
    agent_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Case:
    """One test case as an agent reported it."""

    suite: str
    classname: str
    name: str
    status: str
    duration_ms: int
    failure_type: str = ""
    failure_message: str = ""
    failure_detail: str = ""
    system_out: str = ""
    system_err: str = ""

    def cleaned(self) -> Case:
        """Bounded; a status that is none is `errored`."""
        return Case(
            clean(self.suite, MAX_NAME),
            clean(self.classname, MAX_NAME),
            clean(self.name, MAX_NAME),
            self.status if self.status in STATUSES else "errored",
            min(max(self.duration_ms, 0), MAX_DURATION),
            clean(self.failure_type, MAX_TEXT),
            clean(self.failure_message, MAX_TEXT),
            clean(self.failure_detail, MAX_TEXT),
            clean(self.system_out, MAX_TEXT),
            clean(self.system_err, MAX_TEXT),
        )


async def replace(db: Database, attempt: Attempt, cases: Sequence[Case], now: datetime) -> bool:
    """Keeps the cases of a job in place of earlier ones; False when the attempt is not the agent's any more."""
    columns = (
        [case.suite for case in cases],
        [case.classname for case in cases],
        [case.name for case in cases],
        [case.status for case in cases],
        [case.duration_ms for case in cases],
        [case.failure_type for case in cases],
        [case.failure_message for case in cases],
        [case.failure_detail for case in cases],
        [case.system_out for case in cases],
        [case.system_err for case in cases],
    )
    stored = await db.fetchval(_SQL.replace_tests, attempt.job_id, attempt.agent_id, attempt.attempt, now, *columns)
    return bool(stored)


@dataclass(frozen=True, slots=True)
class Results:
    """The test results of a run: figures by job, and the cases."""

    summaries: list[asyncpg.Record]
    cases: list[asyncpg.Record]


async def of_run(db: Database, run_id: UUID, limit: int | None, offset: int) -> Results:
    """The results of a run; `limit` and `offset` are about its cases. Raises NotFoundError."""

    async def work(conn: Connection) -> Results | None:
        summaries = await conn.fetch(_SQL.test_summaries, run_id)
        if not summaries and not await conn.fetchval(_RUNS.run_exists, run_id):
            return None
        return Results(summaries, await conn.fetch(_SQL.test_cases, run_id, limit, offset) if summaries else [])

    found = await db.run(work)
    if found is None:
        raise NotFoundError("not found")
    return found


async def history(db: Database, name: str, classname: str, limit: int) -> list[asyncpg.Record]:
    """How the case of this name and class ended lately, newest first, in all projects."""
    return await db.fetch(_SQL.test_history, name, classname, limit)
