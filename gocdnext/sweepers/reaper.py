"""The reaper: takes running jobs back from agents that are gone (spec-execution 14)."""

from __future__ import annotations

import structlog
import trio

from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.runs.service import RunService

_log = structlog.get_logger("reaper")
EVERY = 30.0
"""Seconds between two passes."""


async def run(runs: RunService) -> None:
    """Reaps until cancelled. Two servers may do it at once: a job is taken back by the attempt it was seen in."""
    while True:
        await trio.sleep(EVERY)
        try:
            taken = await runs.reap()
        except DatabaseUnavailableError as error:
            _log.warning("reaper waits for the database", error=str(error))
            continue
        if taken:
            _log.info("jobs of lost agents taken back", jobs=taken)
