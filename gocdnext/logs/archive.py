"""Logs of ended jobs go from the table into blobs, and are read from there block by block (contract-admin 11.2).

A blob is written whole before its row is; lines are deleted with the row. So a log is in one of the two places, whatever
is killed when. Which logs are archived is decided by `projects.log_archive`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import trio
import trio_asyncio

from gocdnext.blobs.store import BlobStore
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.logs import blocks
from gocdnext.logs.blocks import Index
from gocdnext.logs.windows import LogLine, Window

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
        index = Index()
        await trio_asyncio.trio_as_aio(_write)(store, key, conn, job_id, index)
        if not await conn.fetchval(_SQL.settle, job_id, attempt):
            return None
        if not index.lines:
            return False
        await conn.execute(
            _SQL.keep, job_id, key, index.lines, index.size, now, index.seqs, index.before, index.offsets
        )
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


async def _write(store: BlobStore, key: str, conn: Connection, job_id: UUID, index: Index) -> None:
    await store.put(key, _blocks(conn, job_id, index))


async def _blocks(conn: Connection, job_id: UUID, index: Index) -> AsyncIterator[bytes]:
    seq, at = _BEFORE_ALL
    while True:
        rows = await trio_asyncio.aio_as_trio(conn.fetch)(_SQL.page, job_id, seq, at, blocks.BLOCK_LINES)
        if not rows:
            return
        lines = _one_block(rows)
        seq, at = lines[-1].seq, lines[-1].at
        block = await trio.to_thread.run_sync(blocks.packed, lines)
        index.add(lines, block)
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


@dataclass(frozen=True, slots=True)
class Archived:
    """A log that is a blob."""

    store: BlobStore
    key: str
    index: Index

    async def window(self, *, tail: int, head: int, since: int | None) -> Window:
        """See `windows.windows`. Reads the blocks that the lines are in. Raises OSError."""
        if since is not None:
            first = max(0, bisect_right(self.index.seqs, since) - 1)
            found = await self._beyond(first, since, tail)
            return Window(tail=found, total=self.index.lines)
        skipped = max(0, self.index.lines - tail)
        shown = await self._lines(skipped, tail)
        before = await self._lines(0, min(head, skipped))
        return Window(tail=shown, head=before, total=self.index.lines)

    async def after(self, seq: int, at: datetime) -> AsyncIterator[list[LogLine]]:
        """All lines behind a position, a block at a time. Raises OSError."""
        for number in range(max(0, bisect_right(self.index.seqs, seq) - 1), len(self.index.seqs)):
            lines = [line for line in await self._block(number) if (line.seq, line.at) > (seq, at)]
            if lines:
                yield lines

    async def _lines(self, start: int, count: int) -> list[LogLine]:
        """`count` lines from the one with `start` lines before it."""
        if count <= 0 or start >= self.index.lines:
            return []
        number = bisect_right(self.index.before, start) - 1
        skipped = start - self.index.before[number]
        found: list[LogLine] = []
        while number < len(self.index.seqs) and len(found) < skipped + count:
            found += await self._block(number)
            number += 1
        return found[skipped : skipped + count]

    async def _beyond(self, number: int, since: int, count: int) -> list[LogLine]:
        """`count` lines with a larger seq, from a block on."""
        found: list[LogLine] = []
        while number < len(self.index.seqs) and len(found) < count:
            found += [line for line in await self._block(number) if line.seq > since]
            number += 1
        return found[:count]

    async def _block(self, number: int) -> list[LogLine]:
        offsets = self.index.offsets
        stop = offsets[number + 1] if number + 1 < len(offsets) else self.index.size
        async with self.store.open(self.key) as blob:
            if blob is None:
                raise blocks.DamagedError(f"the archive of a log is gone: {self.key}")
            data = b"".join([piece async for piece in blob.pieces(offsets[number], stop)])
        return await trio.to_thread.run_sync(blocks.unpacked, data)


async def find(db: Database, store: BlobStore, job_ids: list[UUID]) -> dict[UUID, Archived]:
    """The archives of these jobs, as far as there are any. Raises DatabaseUnavailableError."""
    return {
        row["job_run_id"]: Archived(
            store,
            row["storage_key"],
            Index(row["block_seqs"], row["block_lines"], row["block_offsets"], row["lines"], row["size_bytes"]),
        )
        for row in await db.fetch(_SQL.find, job_ids)
    }
