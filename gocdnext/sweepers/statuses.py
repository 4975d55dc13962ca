"""Tells providers how runs stand (contract-admin 8.9)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import trio

from gocdnext.db.pool import Database
from gocdnext.forges.reporter import Reporter, forget_deliveries
from gocdnext.sweepers.periodic import every

DAY = 86400.0


async def run(reporter: Reporter, db: Database, clock: Callable[[], datetime]) -> None:
    """Tells until cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reporter.run)
        nursery.start_soon(every, DAY, "deliveries of GitHub Apps", lambda: forget_deliveries(db, clock()))
