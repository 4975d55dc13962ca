"""Deployment records: a revision per attempt of a deploy job, from the claim to the job's end (spec-execution 11).

Asyncio code on one raw connection, inside the transaction of the change that it follows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.runs.planning import Deploy
from gocdnext.runs.state import QUEUED, RUNNING, Job, Run

_SQL = queries.load("environments")


async def start(conn: Connection, run: Run, deploys: list[Deploy], now: datetime, new_id: Callable[[], UUID]) -> None:
    """Records deployments that were claimed in this transaction."""
    for deploy in deploys:
        await conn.execute(
            _SQL.deploy_started,
            new_id(),
            run.project_id,
            deploy.environment,
            new_id(),
            run.id,
            deploy.job.id,
            deploy.job.attempt,
            deploy.reference.version,
            deploy.reference.revision,
            now,
            deploy.job.rollback,
            run.triggered_by,
        )


async def follow(conn: Connection, before: Run, after: Run, now: datetime) -> None:
    """Ends, or takes back, the records of deploy jobs that stopped running in this change."""
    ended: list[tuple[Job, str]] = []
    for job in before.jobs:
        if not job.retry_unsafe or job.status != RUNNING:
            continue
        became = after.job(job.id)
        if became is None or became.status == RUNNING:
            continue
        if became.status == QUEUED and became.attempt == job.attempt:
            await conn.execute(_SQL.deploy_undone, job.id, job.attempt)
        else:
            ended.append((job, "failed" if became.status == QUEUED else became.status))
    if ended:
        ids, attempts = [job.id for job, _ in ended], [job.attempt for job, _ in ended]
        await conn.execute(_SQL.deploys_ended, ids, attempts, [status for _, status in ended], now)
