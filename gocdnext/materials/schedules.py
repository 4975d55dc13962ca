"""Cron materials: a schedule whose time has come starts a run of its pipeline, once on however many servers.

Contract-admin 11.3 and design 9, decision 12: the first fire is counted from when the material came; times that passed
while no server ran are one run together. The fire is taken in the transaction that makes its run.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.materials.arrivals import Arrival, Started, start_runs
from gocdnext.materials.together import in_one_transaction
from gocdnext.pipeline import cron
from gocdnext.runs.crowd import Create
from gocdnext.runs.service import RunService

BATCH = 1000
"""Schedules that one pass begins, and that it fires, at most; the rest waits for the next."""
CAUSE = BRANCH = "cron"

_SQL = queries.load("cron")
_LOG = structlog.get_logger(__name__)
_parsed = functools.lru_cache(maxsize=4096)(cron.parse)


@dataclass(frozen=True, slots=True)
class _Due:
    material_id: UUID
    pipeline_id: UUID
    expression: str
    planned: datetime


def server_zone() -> tzinfo:
    """The time zone of this process, for schedules that name none: `TZ`, else the system's, else UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    try:
        if name:
            return ZoneInfo(name)
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (ValueError, LookupError, OSError):
        return UTC


async def fire(db: Database, runs: RunService, now: datetime, zone: tzinfo) -> int:
    """One pass: how many schedules fired. Raises DatabaseUnavailableError. Ends early while another server is at it."""
    await _begin(db, zone)
    fired = 0
    for row in await db.fetch(_SQL.due_schedules, now, BATCH):
        due = _Due(row["id"], row["pipeline_id"], row["expression"], row["next_at"])
        following = after(due.expression, now, due.planned, zone)
        started = await in_one_transaction(runs, functools.partial(_fire, due, following, now))
        if started is None:
            break
        for _, reason in started.refused:
            _LOG.warning("a schedule starts no run", material=str(due.material_id), reason=reason)
        fired += len(started.runs)
    return fired


async def _begin(db: Database, zone: tzinfo) -> None:
    rows = await db.fetch(_SQL.schedules_without_state, BATCH)
    if rows:
        first = [after(row["expression"], row["created_at"], row["created_at"], zone) for row in rows]
        await db.execute(_SQL.begin_schedules, [row["id"] for row in rows], first)


def after(expression: str, moment: datetime, since: datetime, zone: tzinfo) -> datetime | None:
    """When a stored expression fires next after `moment`; None: never, or it cannot be read any more. See `cron.Schedule`."""
    try:
        return _parsed(expression).after(moment, since=since, zone=zone)
    except ValueError as error:
        # Applied before such expressions were refused, or its zone is gone from this system.
        _LOG.warning("a schedule cannot be read", expression=expression, reason=str(error))
        return None


async def _fire(
    due: _Due, following: datetime | None, now: datetime, conn: Connection, create: Create
) -> Started | None:
    """Asyncio side, in the transaction of the run. None while another server fires."""
    if not await conn.fetchval(_SQL.try_clock_lock):
        return None
    taken = await conn.fetchval(_SQL.take_fire, due.pipeline_id, due.material_id, due.planned, following, now)
    if taken is None:
        return Started()
    arrival = Arrival(
        pipeline_id=due.pipeline_id,
        material_id=due.material_id,
        # Of the planned time: the same fire is the same modification, whatever else goes wrong.
        revision=f"cron:{int(due.planned.timestamp())}",
        branch=BRANCH,
        cause=CAUSE,
        triggered_by=CAUSE,
        detail={
            "provider": CAUSE,
            "delivery": f"cron:{int(due.planned.timestamp())}",
            "expression": due.expression,
            "fired_at": now.isoformat(),
        },
        author=CAUSE,
        message=f"scheduled by {due.expression}",
    )
    return await start_runs(conn, create, [arrival], now, only_new=True)
