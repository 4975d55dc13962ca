"""A project is removed with its whole history (contract-runs 2.6).

What runs is cancelled first, each run in its own transaction as if somebody had cancelled it, so that agents stop even if
the rest fails. Then everything goes in one transaction, with the counts taken in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import ConflictError, NotFoundError
from gocdnext.runs.ports import RunningJob

_SQL = queries.load("delete_project")
PATIENCE = 600.0
"""Seconds for the one statement that removes everything: millions of log lines may go with it."""


class Runs(Protocol):
    """What this module asks of the runs room."""

    async def cancel_run(self, run_id: UUID) -> int:
        """Cancels an open run. Raises NotFoundError, ConflictError."""

    async def forsake(self, jobs: Sequence[RunningJob]) -> int:
        """Tells agents to stop jobs that are gone; how many have a session in this process."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """How much went with the project."""

    pipelines: int
    runs: int
    secrets: int
    scm_sources: int
    stopped: int = 0
    """Jobs that agents of this process had: their ends will not be told by anybody."""


async def delete(db: Database, runs: Runs, slug: str) -> Deleted:
    """Removes the project `slug`. Raises NotFoundError. Blobs are left to their sweeper."""
    for row in await db.fetch(_SQL.open_runs, slug):
        # Somebody else may have ended it meanwhile.
        with contextlib.suppress(ConflictError, NotFoundError):
            await runs.cancel_run(row["id"])

    async def work(conn: Connection) -> tuple[Deleted, list[RunningJob]]:
        project_id: UUID | None = await conn.fetchval(_SQL.lock_project, slug)
        if project_id is None:
            raise NotFoundError("project not found")
        await conn.execute(_SQL.lock_pipelines, project_id)
        running = await conn.fetch(_SQL.running_jobs, project_id)
        counts = await conn.fetchrow(_SQL.counts, project_id)
        assert counts is not None
        await conn.execute(_SQL.delete_project, project_id, timeout=PATIENCE)
        return Deleted(**counts), [RunningJob(row["agent_id"], row["run_id"], row["job_id"]) for row in running]

    deleted, running = await db.transaction(work)
    return replace(deleted, stopped=await runs.forsake(running))
