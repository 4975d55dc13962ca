"""Keeps the monthly partitions of log lines ready, and drops those whose time is over (contract-admin 11.1, 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from gocdnext.db.pool import Database
from gocdnext.logs import partitions
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 600.0
"""Seconds between two looks; one month ahead is at least 28 days, so many looks may fail."""


async def run(
    db: Database,
    months_ahead: int,
    clock: Callable[[], datetime],
    *,
    retention: timedelta | None = None,
    board: Board | None = None,
) -> None:
    """Makes missing partitions until cancelled, and drops those that ended more than `retention` ago (None: none)."""

    async def sweep() -> Mapping[str, int]:
        now = clock()
        made = await partitions.ensure(db, now, months_ahead)
        dropped = 0 if retention is None else await partitions.drop(db, now - retention)
        return {"LogPartitionsCreated": made, "LogPartitionsDropped": dropped}

    await every(EVERY, "partitions", sweep, board=board)
