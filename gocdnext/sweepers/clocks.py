"""Starts the runs of cron materials when their time has come (contract-admin 11.3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gocdnext.db.pool import Database
from gocdnext.materials import schedules
from gocdnext.runs.service import RunService
from gocdnext.sweepers.periodic import every

EVERY = 10.0
"""Seconds between two looks: a run starts at most so much later than its schedule says."""


async def run(db: Database, runs: RunService, clock: Callable[[], datetime]) -> None:
    """Looks until cancelled, at once for the first time. The time zone is that of the process when this starts."""
    zone = schedules.server_zone()
    await every(EVERY, "clocks", lambda: schedules.fire(db, runs, clock(), zone), first=0.0)
