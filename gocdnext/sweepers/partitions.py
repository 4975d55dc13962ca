"""Keeps the monthly partitions of log lines ready ahead of time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog
import trio

from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.logs import partitions

_log = structlog.get_logger("partitions")
EVERY = 6 * 3600.0
"""Seconds between two looks; one month ahead is at least 28 days, so many looks may fail."""


async def run(db: Database, months_ahead: int, clock: Callable[[], datetime]) -> None:
    """Makes missing partitions until cancelled."""
    while True:
        await trio.sleep(EVERY)
        try:
            made = await partitions.ensure(db, clock(), months_ahead)
        except DatabaseUnavailableError as error:
            _log.warning("partitions wait for the database", error=str(error))
            continue
        if made:
            _log.info("log partitions made", partitions=made)
