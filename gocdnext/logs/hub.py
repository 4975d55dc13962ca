"""Live fan-out of committed log lines: a bounded ring of rendered frames per run that somebody reads.

Readers have no queue of their own: each has a cursor, takes what the ring holds after it, and refills from the table
when the ring has moved on. So a reader that stalls costs nothing and loses nothing, and the writer never waits.

The one invariant: everything up to `Watch.edge` is committed, so a reader finds it in the ring or in the table.
All methods but `run` are synchronous and may be called from the trio and the asyncio side (one thread).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

import structlog
import trio

from gocdnext.db import queries
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.logs.frames import Chunk
from gocdnext.runs import state

RING_BYTES = 2 * 1024 * 1024
"""Frames kept for one run."""
TOTAL_BYTES = 32 * 1024 * 1024
"""Frames kept for all runs together; a run that publishes beyond it keeps its newest piece only."""
JOINED_BYTES = 16 * 1024
"""Small chunks are handed over together up to this size: a copy for each reader, so it is not larger."""
POLL_SECONDS = 1.0
"""How often the table is asked about the runs that are read: lines stored by another server, and runs that ended."""
POKE_SECONDS = 0.02
"""The least time between two looks at the table."""
PUBLISHED_WITHIN = 0.1
"""Seconds after which lines that are committed and have not been published here were stored by another server."""
PACE_SECONDS = 0.0002
"""The least time from one round of waking readers to the next, for each that was woken. To send a piece costs the server
nearly as much, however small it is: at this pace each gets in one piece what has come in meanwhile, and others have a turn."""
LONGEST_PACE = 0.5
"""Seconds; however many readers there are."""

_SQL = queries.load("logs")
_TERMINAL = frozenset({state.SUCCESS, state.FAILED, state.CANCELED})
_log = structlog.get_logger(__name__)


class Watch:
    """What the readers of one run share."""

    __slots__ = ("_news", "_ring", "_waiting", "edge", "ended", "readers", "run_id", "size")

    def __init__(self, run_id: UUID, news: Callable[[Watch], None]) -> None:
        """`news` is called when lines have come that readers are to be woken for."""
        self.run_id = run_id
        self._news = news
        self.readers = 0
        self.edge = 0
        """The newest cursor known to be committed."""
        self.ended: str | None = None
        """The run's status once it is finished and no line can come any more."""
        self.size = 0
        self._ring: deque[Chunk] = deque()
        self._waiting = trio.lowlevel.ParkingLot()

    def chunk_after(self, cursor: int) -> Chunk | None:
        """What the ring has after `cursor`, a chunk or about JOINED_BYTES; None when there is nothing in it.

        Where lines come one by one, a reader that is a few of them behind gets them in one piece: each piece costs the
        server far more than its bytes.
        """
        newer: list[Chunk] = []
        # Live readers are at the newest end, so the search starts there.
        for chunk in reversed(self._ring):
            newer.append(chunk)
            if chunk.after <= cursor:
                return _joined(newer) if chunk.after == cursor else None
        return None

    async def wait(self) -> None:
        """Until something was published or the run ended; wakes without a cause too."""
        await self._waiting.park()

    def wake(self) -> int:
        """Lets all readers look again; returns how many were waiting."""
        return len(self._waiting.unpark_all())

    def append(self, first: int, last: int, pieces: Iterable[Chunk], budget: int) -> int:
        """Takes lines (first..last) into the ring; returns by how many bytes it grew."""
        if last <= self.edge:
            # A later batch was published before this one: its readers have been sent to the table already.
            return 0
        before = self.size
        if first != self.edge + 1:
            self._clear()
        for chunk in pieces:
            self._ring.append(chunk)
            self.size += len(chunk.data)
        limit = min(RING_BYTES, before + max(budget, 0))
        while self.size > limit and len(self._ring) > 1:
            self.size -= len(self._ring.popleft().data)
        self.edge = last
        self._news(self)
        return self.size - before

    def advance(self, last: int) -> int:
        """Lines up to `last` are committed but not in the ring; returns by how many bytes it changed (never grows)."""
        if last <= self.edge:
            return 0
        before = self.size
        self._clear()
        self.edge = last
        self._news(self)
        return -before

    def _clear(self) -> None:
        self._ring.clear()
        self.size = 0


def _joined(newest_first: list[Chunk]) -> Chunk:
    """The oldest of these neighbours, with as many of the next ones as make up JOINED_BYTES."""
    oldest = newest_first.pop()
    pieces, size, last = [oldest.data], len(oldest.data), oldest.last
    while newest_first and size + len(newest_first[-1].data) <= JOINED_BYTES:
        chunk = newest_first.pop()
        pieces.append(chunk.data)
        size += len(chunk.data)
        last = chunk.last
    return oldest if len(pieces) == 1 else Chunk(oldest.after, last, b"".join(pieces))


class LogHub:
    """The runs that are being read on this server."""

    def __init__(self) -> None:
        self._watches: dict[UUID, Watch] = {}
        self._bytes = 0
        self._poked = trio.Event()
        self._with_news: set[Watch] = set()
        self._news = trio.Event()

    @contextlib.contextmanager
    def subscribe(self, run_id: UUID) -> Iterator[Watch]:
        """The shared watch of a run, for as long as the reader reads."""
        watch = self._watches.get(run_id)
        if watch is None:
            watch = self._watches[run_id] = Watch(run_id, self._tell)
        watch.readers += 1
        try:
            yield watch
        finally:
            watch.readers -= 1
            if watch.readers == 0:
                del self._watches[run_id]
                self._bytes -= watch.size

    def is_read(self, run_id: UUID) -> bool:
        """Whether anybody reads this run now: lines of others need not be rendered."""
        return run_id in self._watches

    def readers(self) -> int:
        """How many readers there are, for the metrics."""
        return sum(watch.readers for watch in self._watches.values())

    def publish(self, run_id: UUID, first: int, last: int, pieces: Iterable[Chunk]) -> None:
        """Committed lines with cursors first..last, rendered; call it after the commit."""
        if (watch := self._watches.get(run_id)) is not None:
            self._bytes += watch.append(first, last, pieces, TOTAL_BYTES - self._bytes)

    def advance(self, run_id: UUID, last: int) -> None:
        """Committed lines up to cursor `last` that have to be read from the table."""
        if (watch := self._watches.get(run_id)) is not None:
            self._bytes += watch.advance(last)

    def observe(self, run_id: UUID, status: str, last: int, busy: bool) -> None:
        """What the database says of a run: its status, newest cursor, and whether one of its jobs is running."""
        if (watch := self._watches.get(run_id)) is None:
            return
        self._bytes += watch.advance(last)
        ended = status if status in _TERMINAL and not busy else None
        if ended != watch.ended:
            watch.ended = ended
            watch.wake()

    def _tell(self, watch: Watch) -> None:
        self._with_news.add(watch)
        self._news.set()

    def poke(self) -> None:
        """A run has ended: look now instead of at the next poll."""
        self._poked.set()

    async def run(
        self,
        db: Database,
        shutdown: trio.Event,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Asks the table about the runs that are read, in one statement, until `shutdown`; then wakes every reader."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._poll_for_ever, db)
                nursery.start_soon(self._wake_for_ever)
                task_status.started()
                await shutdown.wait()
                nursery.cancel_scope.cancel()
        finally:
            for watch in self._watches.values():
                watch.wake()

    async def _wake_for_ever(self) -> None:
        """Wakes at once who reads a quiet run. Woken for every line of a busy one, many readers would take all of the
        server's time, and wait longer for it."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            watches, self._with_news = self._with_news, set()
            woken = sum(watch.wake() for watch in watches)
            await trio.sleep(min(woken * PACE_SECONDS, LONGEST_PACE))

    async def _poll_for_ever(self, db: Database) -> None:
        while True:
            with trio.move_on_after(POLL_SECONDS):
                await self._poked.wait()
            self._poked = trio.Event()
            if self._watches:
                await self._poll(db)
            await trio.sleep(POKE_SECONDS)

    async def _poll(self, db: Database) -> None:
        try:
            rows = await db.fetch(_SQL.run_states, list(self._watches))
        except DatabaseUnavailableError as error:
            _log.warning("log readers wait for the database", error=str(error))
            return
        if any(self._is_behind(row["id"], row["last"]) for row in rows):
            # Most likely our own writer is about to publish them: all readers would ask the table for nothing.
            await trio.sleep(PUBLISHED_WITHIN)
        for row in rows:
            self.observe(row["id"], row["status"], row["last"], row["busy"])

    def _is_behind(self, run_id: UUID, last: int) -> bool:
        watch = self._watches.get(run_id)
        return watch is not None and watch.edge < last
