"""Removes artifacts and caches whose time is over, and what uploads that broke off have left (contract-admin 11.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import trio

from gocdnext.blobs import sweeping
from gocdnext.blobs.quotas import NO_QUOTAS
from gocdnext.blobs.store import BlobStore
from gocdnext.config import Quotas
from gocdnext.db.pool import Database
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY, FIRST = 600.0, 30.0
"""Seconds between two passes over the rows, and before the first."""
EVERY_LOST, FIRST_LOST = 6 * 3600.0, 300.0
"""The same for passes over every file of the store."""


async def run(
    db: Database,
    store: BlobStore,
    cache_life: timedelta | None,
    clock: Callable[[], datetime],
    *,
    quotas: Quotas = NO_QUOTAS,
    board: Board | None = None,
) -> None:
    """Sweeps until cancelled. `cache_life` is how long a cache is kept that nobody reads; None = for ever."""

    async def rows() -> Mapping[str, int]:
        stats: Counter[str] = Counter()
        await sweeping.sweep(db, store, cache_life, clock(), quotas=quotas, stats=stats)
        return stats

    async def lost() -> int:
        return await sweeping.sweep_lost(db, store, clock())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: every(EVERY, "blobs", rows, first=FIRST, board=board))
        nursery.start_soon(lambda: every(EVERY_LOST, "lost blobs", lost, first=FIRST_LOST, board=board))
