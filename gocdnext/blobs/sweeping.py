"""What goes when its time is over: rows first, then the blobs without a row. One batch at a time, bounded.

Deleting a row buries its blob (`dead_blobs`, by a trigger), whoever deletes it; what is buried stays for GRACE, because
somebody may hold a link to it. Decides nothing about what is kept for how long but what is said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import structlog
import trio_asyncio

from gocdnext.blobs import quotas as limits
from gocdnext.blobs.links import UPLOAD_LASTS
from gocdnext.blobs.quotas import NO_QUOTAS
from gocdnext.blobs.store import BlobStore
from gocdnext.config import Quotas
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database

BATCH = 500
"""Rows of a kind, and blobs, in one transaction (contract-admin 11.1)."""
MAX_BATCHES = 20
"""Batches in one pass: what is left waits for the next."""
GRACE = timedelta(minutes=5)
"""How long a buried blob stays."""
STALE = 2 * UPLOAD_LASTS
"""An upload that was not confirmed by then was given up: the life of its ticket and as long again."""
LOST_AFTER = timedelta(hours=1)
"""Files without a row are left alone for so long: their upload may be under way."""
PREFIXES = ("run", "cache", "logs")
"""What of the store belongs to artifacts, caches and archived logs."""

_SQL = queries.load("blobs")
_log = structlog.get_logger("sweeper")


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: int
    blobs: int

    @property
    def full(self) -> bool:
        """Whether there may be more."""
        return max(self.rows, self.blobs) >= BATCH


async def sweep(
    db: Database,
    store: BlobStore,
    cache_life: timedelta | None,
    now: datetime,
    *,
    quotas: Quotas = NO_QUOTAS,
    stats: Counter[str] | None = None,
) -> int:
    """One pass over rows and buried blobs; how many of both went. Raises DatabaseUnavailableError, OSError.

    `cache_life` is how long a cache is kept that nobody reads, None for ever. Does nothing while another server sweeps.
    In `stats` it is counted in the words of contract-admin 7.4.
    """
    stats = Counter() if stats is None else stats
    stats.update(await db.transaction(lambda conn: _beyond_quotas(conn, quotas, now)))
    changed = 0
    for _ in range(MAX_BATCHES):
        batch = await db.transaction(lambda conn: _batch(conn, store, cache_life, now, quotas.keep_newest, stats))
        changed += batch.rows + batch.blobs
        if not batch.full:
            break
    return changed


async def sweep_lost(db: Database, store: BlobStore, now: datetime) -> int:
    """One pass over the whole store for what no row knows (a server that was killed between file and row), and for what
    broken uploads have left; how many files went. Raises DatabaseUnavailableError, OSError."""
    removed = await store.clean(now - LOST_AFTER)
    for prefix in PREFIXES:
        async for page in store.pages(prefix):
            old = [blob.key for blob in page if blob.modified < now - LOST_AFTER]
            if old:
                unknown = [row["storage_key"] for row in await db.fetch(_SQL.unknown_blobs, old)]
                removed += len(await store.delete(unknown))
    return removed


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows that went: their bytes, since when they were there, and artifacts also why."""

    artifacts: list[asyncpg.Record]
    uploads: list[asyncpg.Record]
    caches: list[asyncpg.Record]


async def drop_rows(
    conn: Connection, cache_life: timedelta | None, now: datetime, *, keep_newest: int, batch: int
) -> Dropped:
    """Deletes the rows whose time is over, `batch` of each kind at most; `keep_newest` as in `Quotas`."""
    return Dropped(
        await conn.fetch(_SQL.drop_expired_artifacts, now, batch, keep_newest),
        await conn.fetch(_SQL.drop_stale_uploads, now - STALE, batch),
        [] if cache_life is None else await conn.fetch(_SQL.drop_unused_caches, now - cache_life, batch),
    )


async def _beyond_quotas(conn: Connection, quotas: Quotas, now: datetime) -> Counter[str]:
    if not await conn.fetchval(_SQL.try_sweep_lock):
        return Counter()
    beyond = await limits.enforce(conn, quotas, now)
    counted = beyond.demoted.copy()
    for name, gone in beyond.caches.items():
        counted[name] = len(gone)
        counted["CacheBytesFreed"] += _bytes(gone)
    return counted


async def _batch(
    conn: Connection,
    store: BlobStore,
    cache_life: timedelta | None,
    now: datetime,
    keep_newest: int,
    stats: Counter[str],
) -> _Batch:
    if not await conn.fetchval(_SQL.try_sweep_lock):
        return _Batch(0, 0)
    dropped = await drop_rows(conn, cache_life, now, keep_newest=keep_newest, batch=BATCH)
    stats["Claimed"] += len(dropped.artifacts) + len(dropped.uploads)
    stats["CachesDeleted"] += len(dropped.caches)
    stats["BytesFreed"] += _bytes(dropped.artifacts)
    stats["CacheBytesFreed"] += _bytes(dropped.caches)
    dead = [row["storage_key"] for row in await conn.fetch(_SQL.dead_blobs, now - GRACE, BATCH)]
    gone = await trio_asyncio.trio_as_aio(store.delete)(dead) if dead else []
    await conn.execute(_SQL.forget_dead_blobs, gone)
    left = sorted(set(dead) - set(gone))
    stats["Deleted"] += len(gone)
    stats["StorageFailures"] += len(left)
    if left:
        # Logged where it happened. The next batch is not to begin with them again.
        await conn.execute(_SQL.postpone_dead_blobs, left, now)
    return _Batch(len(dropped.artifacts) + len(dropped.uploads) + len(dropped.caches), len(gone))


def _bytes(rows: Iterable[asyncpg.Record]) -> int:
    return sum(row["size_bytes"] or 0 for row in rows)
