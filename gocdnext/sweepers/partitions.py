"""Keeps the monthly partitions of log lines ready ahead of time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gocdnext.db.pool import Database
from gocdnext.logs import partitions
from gocdnext.sweepers.periodic import every

EVERY = 6 * 3600.0
"""Seconds between two looks; one month ahead is at least 28 days, so many looks may fail."""


async def run(db: Database, months_ahead: int, clock: Callable[[], datetime]) -> None:
    """Makes missing partitions until cancelled."""
    await every(EVERY, "partitions", lambda: partitions.ensure(db, clock(), months_ahead))
