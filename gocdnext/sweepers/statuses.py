"""Tells providers how runs stand (contract-admin 8.9)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import trio

from gocdnext.db.pool import Database
from gocdnext.forges.reporter import Reporter, forget_deliveries
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

DAY = 86400.0


async def run(reporter: Reporter, db: Database, clock: Callable[[], datetime], board: Board | None = None) -> None:
    """Tells until cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reporter.run)
        forget = "deliveries of GitHub Apps"
        nursery.start_soon(lambda: every(DAY, forget, lambda: forget_deliveries(db, clock()), board=board))
