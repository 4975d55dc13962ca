"""Logs of ended jobs go from the table into blobs (contract-admin 11.2). Reading them is in `archived`.

A blob is written whole before its row is; lines are deleted with the row. So a log is in one of the two places, whatever
is killed when. Which logs are archived is decided by `projects.log_archive`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import trio
import trio_asyncio

from gocdnext.blobs.store import BlobStore
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.logs import blocks
from gocdnext.logs.blocks import Cursors, Index
from gocdnext.logs.windows import LogLine

SETTLED = timedelta(minutes=5)
"""How long a job has ended before its log is archived: people look at it now, and may repeat it."""
BATCH = 100
"""Jobs of one pass."""
_BEFORE_ALL = (-(2**63), datetime(1, 1, 1, tzinfo=UTC))
_SQL = queries.load("log_archives")


async def candidates(db: Database, default: bool, now: datetime) -> list[UUID]:
    """Jobs whose logs are to be archived. `default`: what holds for projects that do not say it themselves."""
    return [row["id"] for row in await db.fetch(_SQL.candidates, now - SETTLED, default, BATCH)]


async def archive(db: Database, store: BlobStore, job_id: UUID, *, name: UUID, now: datetime) -> bool | None:
    """Archives the log of one job; False when it has no lines, None when another server does it or the job goes on.

    `name` makes the blob's key, which is never used again: what was there before may be about to be removed.
    Raises DatabaseUnavailableError, OSError.
    """
    key = f"logs/{job_id}/{name}.log.gz"
    kept = False

    async def work(conn: Connection) -> bool | None:
        attempt = await conn.fetchval(_SQL.begin, job_id)
        if attempt is None:
            return None
        index, cursors = Index(), Cursors()
        pieces = _blocks(conn, job_id, index, cursors)
        await trio_asyncio.trio_as_aio(_write)(store, key, pieces)
        if not await conn.fetchval(_SQL.settle, job_id, attempt):
            return None
        if not index.lines:
            return False
        where = (index.seqs, index.before, index.offsets, cursors.lines, cursors.firsts)
        await conn.execute(_SQL.keep, job_id, key, index.lines, index.size, now, *where)
        await conn.execute(_SQL.delete_lines, job_id)
        return True

    try:
        done = await db.transaction(work)
        kept = bool(done)
        return done
    finally:
        if not kept:
            # Short: one unlink. A transaction that failed in its commit may have been kept all the same: then the row
            # is there, and so must be its blob.
            with trio.CancelScope(shield=True), trio.move_on_after(5):
                if not await db.fetch(_SQL.find, [job_id]):
                    await store.delete([key])


async def _write(store: BlobStore, key: str, pieces: AsyncIterator[bytes]) -> None:
    await store.put(key, pieces)


async def _blocks(conn: Connection, job_id: UUID, index: Index, cursors: Cursors) -> AsyncIterator[bytes]:
    seq, at = _BEFORE_ALL
    while True:
        rows = await trio_asyncio.aio_as_trio(conn.fetch)(_SQL.page, job_id, seq, at, blocks.BLOCK_LINES)
        if not rows:
            return
        lines = _one_block(rows)
        seq, at = lines[-1].seq, lines[-1].at
        block = await trio.to_thread.run_sync(blocks.packed, lines)
        index.add(lines, block)
        cursors.add(row["cursor"] for row in rows[: len(lines)])
        yield block


def _one_block(rows: list[asyncpg.Record]) -> list[LogLine]:
    """As many lines as a block takes, at least one."""
    lines, size = [], 0
    for row in rows:
        lines.append(LogLine(row["seq"], row["stream"], row["at"], row["text"]))
        size += len(row["text"])
        if size >= blocks.BLOCK_BYTES:
            break
    return lines
