"""Reading archived logs: windows and whole texts, a block at a time (contract-admin 11.2). Archiving is in `archive`.

An archive never changes, so what was read of it lately is kept in memory. Whether it still is the job's log is asked of the
database each time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import trio

from gocdnext.blobs.store import BlobStore
from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.logs import blocks
from gocdnext.logs.blocks import Index
from gocdnext.logs.recent import Recent
from gocdnext.logs.windows import LogLine, Window

CACHE_BYTES = 16 * 1024 * 1024
"""Of what was read lately, where nobody says otherwise."""
LINE_COSTS, ENTRY_COSTS = 60, 100
"""About so many bytes of memory a line takes beside its text, and a block in an index."""
_SQL = queries.load("log_archives")


class Archives:
    """The archives of logs as one server reads them. Trio side."""

    def __init__(self, db: Database, store: BlobStore, *, room: int = CACHE_BYTES) -> None:
        """`room`: bytes of blocks and indexes that are kept in memory."""
        self.db = db
        self._store = store
        self._indexes: Recent[str, Index] = Recent(room // 4)
        self._blocks: Recent[tuple[str, int], list[str]] = Recent(room - room // 4)

    async def find(self, job_ids: list[UUID]) -> dict[UUID, Archived]:
        """The archives of these jobs, as far as there are any. Raises DatabaseUnavailableError."""
        keys = {row["job_run_id"]: row["storage_key"] for row in await self.db.fetch(_SQL.find, job_ids)}
        return await self._opened(keys)

    async def of_run(self, run_id: UUID) -> dict[UUID, Archived]:
        """The archives of a run's jobs. Raises DatabaseUnavailableError."""
        keys = {row["job_run_id"]: row["storage_key"] for row in await self.db.fetch(_SQL.of_run, run_id)}
        return await self._opened(keys)

    async def _opened(self, keys: dict[UUID, str]) -> dict[UUID, Archived]:
        found = {key: index for key in keys.values() if (index := self._indexes.get(key)) is not None}
        if missing := [key for key in keys.values() if key not in found]:
            for row in await self.db.fetch(_SQL.indexes, missing):
                index = Index(
                    row["block_seqs"], row["block_lines"], row["block_offsets"], row["lines"], row["size_bytes"]
                )
                found[row["storage_key"]] = index
                self._indexes.put(row["storage_key"], index, ENTRY_COSTS * (len(index.seqs) + 1))
        # One that is gone by now is no archive any more.
        return {job: Archived(self, key, found[key]) for job, key in keys.items() if key in found}

    async def block(self, key: str, number: int, index: Index) -> list[str]:
        """The lines of a block as they are written there. Raises OSError."""
        kept = self._blocks.get((key, number))
        if kept is not None:
            return kept
        start, stop = index.where(number)
        async with self._store.open(key) as blob:
            if blob is None:
                raise blocks.DamagedError(f"the archive of a log is gone: {key}")
            data = b"".join([piece async for piece in blob.pieces(start, stop)])
        lines = await trio.to_thread.run_sync(blocks.unpacked, data)
        self._blocks.put((key, number), lines, sum(map(len, lines)) + LINE_COSTS * len(lines))
        return lines


@dataclass(frozen=True, slots=True)
class Archived:
    """A log that is a blob."""

    archives: Archives
    key: str
    index: Index

    async def window(self, *, tail: int, head: int, since: int | None) -> Window:
        """See `windows.windows`. Reads the blocks that the lines are in. Raises OSError."""
        if since is not None:
            return Window(tail=await self._beyond(since, tail), total=self.index.lines)
        skipped = max(0, self.index.lines - tail)
        shown = await self.lines(skipped, tail)
        before = await self.lines(0, min(head, skipped))
        return Window(tail=shown, head=before, total=self.index.lines)

    async def after(self, seq: int, at: datetime) -> AsyncIterator[list[LogLine]]:
        """All lines behind a position, a block at a time. Raises OSError."""
        # Lines of one seq, which differ in their times, may be in two blocks.
        for number in range(max(0, bisect_left(self.index.seqs, seq) - 1), len(self.index.seqs)):
            written = await self._block(number)
            lines = [line for line in map(blocks.line, written) if (line.seq, line.at) > (seq, at)]
            if lines:
                yield lines

    async def lines(self, start: int, count: int) -> list[LogLine]:
        """`count` lines from the one with `start` lines before it. Raises OSError."""
        if count <= 0 or start >= self.index.lines:
            return []
        number = bisect_right(self.index.before, start) - 1
        return await self._from(number, start - self.index.before[number], count)

    async def _beyond(self, since: int, count: int) -> list[LogLine]:
        """`count` lines with a larger seq."""
        number = max(0, bisect_right(self.index.seqs, since) - 1)
        skipped = bisect_right(await self._block(number), since, key=blocks.number)
        return await self._from(number, skipped, count)

    async def _from(self, number: int, skipped: int, count: int) -> list[LogLine]:
        found: list[LogLine] = []
        while number < len(self.index.seqs) and len(found) < count:
            written = await self._block(number)
            found += map(blocks.line, written[skipped : skipped + count - len(found)])
            number, skipped = number + 1, 0
        return found

    async def _block(self, number: int) -> list[str]:
        return await self.archives.block(self.key, number, self.index)
