"""Monthly partitions of the log table: made ahead of time, so that a new month never waits for one; dropped in the end."""

from __future__ import annotations

from datetime import datetime

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Database

MONTHS_AHEAD = 3

_SQL = queries.load("logs")


async def ensure(db: Database, now: datetime, months: int = MONTHS_AHEAD) -> int:
    """Makes the partitions from the month of `now` on; returns how many were new. Raises DatabaseUnavailableError."""
    made: int = await db.fetchval(_SQL.ensure_partitions, now, months)
    return made


async def drop(db: Database, before: datetime) -> int:
    """Drops the partitions that ended before then, with all their lines; returns how many there were. One that is in use
    goes the next time. Raises DatabaseUnavailableError."""
    try:
        dropped: int = await db.fetchval(_SQL.drop_partitions, before)
    except asyncpg.LockNotAvailableError:
        return 0
    return dropped
