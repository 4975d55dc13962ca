"""Starts the runs of cron materials and of schedules of projects when their time has come (contract-admin 11.3, 11.4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gocdnext.db.pool import Database
from gocdnext.materials import project_schedules, schedules
from gocdnext.runs.service import RunService
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 10.0
"""Seconds between two looks: a run starts at most so much later than its schedule says."""


async def run(db: Database, runs: RunService, clock: Callable[[], datetime], board: Board | None = None) -> None:
    """Looks until cancelled, at once for the first time. The time zone is that of the process when this starts."""
    zone = schedules.server_zone()

    async def sweep() -> int:
        return await schedules.fire(db, runs, clock(), zone) + await project_schedules.fire(db, runs, clock(), zone)

    await every(EVERY, "clocks", sweep, first=0.0, board=board)
