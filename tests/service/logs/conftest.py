"""A pool on a fresh real database, and what the logs room needs around it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
import trio
import trio_asyncio

from gocdnext.db.pool import Database, open_pool
from gocdnext.logs import partitions
from gocdnext.logs.batches import Columns
from gocdnext.logs.hub import LogHub
from gocdnext.logs.ingest import LogIngest, LogWriter


class Counted:
    """LogMetrics that can be looked at."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.discarded = 0

    def log_lines_dropped(self, reason: str, count: int) -> None:
        self.dropped[reason] += count

    def log_session_discarded(self) -> None:
        self.discarded += 1


class Logs:
    """The logs room on one database, as the server wires it."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.hub = LogHub()
        self.metrics = Counted()
        self.shutdown = trio.Event()
        self.ingest = LogIngest(db, self.hub, self.metrics)

    @contextlib.asynccontextmanager
    async def writer(self, agent_id: UUID) -> AsyncIterator[Writer]:
        """A writer of a session, running until the block is left."""

        async def make() -> LogWriter:
            return self.ingest.writer(agent_id)

        async with trio.open_nursery() as nursery:
            writer = await trio_asyncio.aio_as_trio(make)()
            nursery.start_soon(trio_asyncio.aio_as_trio(writer.run))
            yield Writer(writer)
            nursery.cancel_scope.cancel()


class Writer:
    """A LogWriter for trio code."""

    def __init__(self, writer: LogWriter) -> None:
        self.writer = writer

    def add(self, target: object, seq: int, text: str, *, at: int | None = None, stream: str = "stdout") -> None:
        now = int(datetime.now(UTC).timestamp() * 1_000_000)
        self.writer.add(target, seq, now if at is None else at, stream, text, now)  # type: ignore[arg-type]

    def add_batch(self, target: object, first: int, texts: list[str], runs: list[tuple[int, int, str]]) -> None:
        """Many lines at once; the times of `runs` are counted from now."""
        now = int(datetime.now(UTC).timestamp() * 1_000_000)
        moved = [(lines, now + micros, stream) for lines, micros, stream in runs]
        self.writer.add_batch(target, Columns(first, texts, moved), now)  # type: ignore[arg-type]

    async def flush(self) -> None:
        await trio_asyncio.aio_as_trio(self.writer.flush)()


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=4) as database:
        await partitions.ensure(database, datetime.now(UTC))
        yield database


@pytest.fixture
async def logs(db: Database) -> AsyncIterator[Logs]:
    logs = Logs(db)
    async with trio.open_nursery() as nursery:
        await nursery.start(logs.hub.run, db, logs.shutdown)
        yield logs
        nursery.cancel_scope.cancel()
