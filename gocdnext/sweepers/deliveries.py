"""Forgets deliveries of webhooks that are older than anybody asks for, and all but the newest of strangers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gocdnext.db.pool import Database
from gocdnext.materials.webhooks import deliveries
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 3600.0
"""Seconds between two passes."""


async def run(db: Database, clock: Callable[[], datetime], board: Board | None = None) -> None:
    """Forgets until cancelled."""
    await every(EVERY, "deliveries", lambda: deliveries.forget(db, clock()), board=board)
