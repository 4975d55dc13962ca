"""Forgets sessions that are over, and sign-ins that nobody came back from (contract-admin 1.3, 2.3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 600.0
"""Seconds between two passes. What is over is refused all the same; this only keeps the tables small."""
BATCH = 5_000
_SQL = queries.load("providers")


async def run(db: Database, clock: Callable[[], datetime], board: Board | None = None) -> None:
    """Forgets until cancelled."""
    await every(EVERY, "sign-ins", lambda: sweep(db, clock()), board=board)


async def sweep(db: Database, now: datetime) -> int:
    """One pass; how many were forgotten. Raises DatabaseUnavailableError."""
    forgotten = _count(await db.execute(_SQL.forget_states, now))
    while (gone := _count(await db.execute(_SQL.forget_sessions, now, BATCH))) > 0:
        forgotten += gone
    return forgotten


def _count(done: str) -> int:
    """Rows, from PostgreSQL's word for it: `DELETE 3`."""
    return int(done.rpartition(" ")[2])
