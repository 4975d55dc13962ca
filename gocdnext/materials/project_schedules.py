"""Schedules of projects fire: each starts its pipelines, once on however many servers (contract-admin 11.4).

Design 9, decision 12: the first fire is counted from creation; times that passed while no server ran are one. The fire is
taken in the transaction that makes its runs. People keep the schedules in the projects room.
"""

from __future__ import annotations

import functools
from datetime import datetime, tzinfo
from uuid import UUID

import asyncpg
import structlog

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import NotFoundError, UnprocessableError
from gocdnext.materials.schedules import after
from gocdnext.materials.together import in_one_transaction
from gocdnext.runs.creation import NewRun
from gocdnext.runs.crowd import Create
from gocdnext.runs.service import RunService
from gocdnext.runs.state import Revision

BATCH = 1000
"""Schedules that one pass fires at most; the rest waits for the next."""
CAUSE = "schedule"

_SQL = queries.load("project_crons")
_LOG = structlog.get_logger(__name__)


async def fire(db: Database, runs: RunService, now: datetime, zone: tzinfo) -> int:
    """One pass: how many runs were started. Raises DatabaseUnavailableError."""
    started = 0
    for due in await db.fetch(_SQL.due, now, BATCH):
        following = after(due["expression"], now, due["next_at"], zone)
        started += await in_one_transaction(runs, functools.partial(_fire, due, following, now))
    return started


async def _fire(
    due: asyncpg.Record, following: datetime | None, now: datetime, conn: Connection, create: Create
) -> int:
    """Asyncio side, in the transaction of the runs: how many there are. Another server may have been first."""
    chosen = due["pipeline_ids"]
    taken = await conn.fetchval(_SQL.take_fire, due["project_id"], chosen, due["id"], due["next_at"], following, now)
    if taken is None:
        return 0
    started = 0
    for known in await conn.fetch(_SQL.newest_revisions, due["project_id"], chosen):
        try:
            await create(_new_run(due, known, now))
        except (NotFoundError, UnprocessableError) as error:
            pipeline: UUID = known["pipeline_id"]
            _LOG.warning("a schedule starts no run", schedule=str(due["id"]), pipeline=str(pipeline), reason=str(error))
        else:
            started += 1
    return started


def _new_run(due: asyncpg.Record, known: asyncpg.Record, now: datetime) -> NewRun:
    return NewRun(
        pipeline_id=known["pipeline_id"],
        cause=CAUSE,
        triggered_by=f"cron:{due['name']}"[:255],
        revisions={str(known["material_id"]): Revision(known["revision"], known["branch"])},
        cause_detail={
            "provider": CAUSE,
            "delivery": f"schedule:{int(due['next_at'].timestamp())}",
            "material_id": str(known["material_id"]),
            "modification_id": known["id"],
            "schedule_id": str(due["id"]),
            "schedule_name": due["name"],
            "expression": due["expression"],
            "fired_at": now.isoformat(),
        },
        ref=known["branch"],
    )
