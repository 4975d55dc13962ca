"""Taking in the log lines of agents, on the asyncio side: one writer per session, one statement per batch.

A writer writes at once when nothing is in flight and gathers while a write is under way, so an idle system is quick
and a busy one writes large batches. Nothing is dropped for want of room: a full buffer makes the receiver stop reading,
and HTTP/2 flow control makes the agent wait. Dropped, and counted, is only what belongs to no attempt any more.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import structlog
import tenacity

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database, DatabaseUnavailableError
from gocdnext.logs import batches
from gocdnext.logs.batches import Columns
from gocdnext.logs.frames import chunks
from gocdnext.logs.hub import LogHub

BUFFER_LINES = 8192
BUFFER_BYTES = 16 * 1024 * 1024
BATCH_LINES = 2000
BATCH_BYTES = 4 * 1024 * 1024
MAX_WRITES = 4
"""Batches written at a time by all sessions together: agents that log much leave connections for everybody else."""
LONG_RUN = 8
"""Lines of a run, on average, from which on a batch is stored by runs."""

_LINE_OVERHEAD = 64
"""Bytes that a line costs beside its text, so that empty lines are bounded too."""
_SQL = queries.load("logs")
_log = structlog.get_logger(__name__)


class LogMetrics(Protocol):
    """What is counted here."""

    def log_lines_dropped(self, reason: str, count: int) -> None:
        """`gocdnext_log_lines_dropped_total{reason}`."""

    def log_session_discarded(self) -> None:
        """`gocdnext_log_batcher_session_discarded_total`: a session ended with lines that were not stored."""


class Listener(Protocol):
    """Who wants to know what becomes of the lines of one session."""

    def stored(self, mark: int) -> None:
        """What was added before `LogWriter.mark` with this number is stored or dropped. Numbers only grow."""

    def stale(self, target: Target) -> None:
        """Lines of this attempt were dropped: it is not the agent's any more."""


@dataclass(frozen=True, slots=True)
class Target:
    """The attempt that lines belong to."""

    run_id: UUID
    job_id: UUID
    attempt: int


@dataclass(slots=True, eq=False)
class _Batch:
    """Lines of one attempt, as the columns of the statement."""

    target: Target
    seqs: list[int] = field(default_factory=list)
    micros: list[int] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    size: int = 0
    runs: list[tuple[int, int, int, str]] = field(default_factory=list)
    """Neighbours that are numbered without a gap and have time and stream in common: how many, the first's number,
    time, stream. All lines, or none when some came one by one."""

    def lines(self, before: int) -> Iterator[tuple[int, str, int, int, str, str]]:
        """The lines (see `frames.Line`) with the cursors that they were stored under."""
        job_id = itertools.repeat(str(self.target.job_id))
        return zip(itertools.count(before + 1), job_id, self.seqs, self.micros, self.streams, self.texts, strict=False)

    def columns(self) -> tuple[list[Any], ...]:
        """One element a line, for the statement `insert_lines`."""
        return self.seqs, self.micros, self.streams, self.texts

    def stretches(self) -> tuple[list[Any], ...]:
        """One element a run, for the statement `insert_runs`: few and long ones cost a third of many short ones, for
        the driver looks at every element of an array several times."""
        counts, firsts, micros, streams = map(list, zip(*self.runs, strict=True))
        ends = list(itertools.accumulate(counts))
        starts = [end - count for end, count in zip(ends, counts, strict=True)]
        separators, joined = [], []
        for start, end in zip(starts, ends, strict=True):
            separator, text = _joined(self.texts[start:end])
            separators.append(separator)
            joined.append(text)
        return starts, firsts, micros, streams, separators, joined


class LogIngest:
    """What all writers of this server share."""

    def __init__(self, db: Database, hub: LogHub, metrics: LogMetrics) -> None:
        self.db = db
        self.writes = asyncio.Semaphore(MAX_WRITES)
        self.hub = hub
        self.metrics = metrics

    def writer(self, agent_id: UUID, listener: Listener | None = None) -> LogWriter:
        """A writer for one session of this agent; its owner runs `LogWriter.run`."""
        return LogWriter(self, agent_id, listener)


class LogWriter:
    """The buffer and the single writer of one session. asyncio side only."""

    def __init__(self, ingest: LogIngest, agent_id: UUID, listener: Listener | None = None) -> None:
        self._ingest = ingest
        self._agent_id = agent_id
        self._listener = listener
        self._mark = 0
        self._told = 0
        self._open: dict[Target, _Batch] = {}
        self._closed: list[_Batch] = []
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._lines = 0
        self._bytes = 0
        self._added = 0
        self._done = 0

    def add(self, target: Target, seq: int, micros: int, stream: str, text: str, now: int) -> None:
        """Takes one line. `micros` (0 when the agent sent none) and `now` are microseconds since 1970."""
        batch = self._open.get(target)
        if batch is None:
            batch = self._begin(target)
        text = batches.storable_text(text)
        batch.seqs.append(seq)
        batch.micros.append(batches.storable_time(micros, now))
        batch.streams.append(batches.storable_stream(stream))
        batch.texts.append(text)
        batch.runs.clear()
        self._count(batch, 1, len(text))

    def add_batch(self, target: Target, columns: Columns, now: int) -> None:
        """Takes many lines at once. They may make one batch larger than BATCH_LINES by what one message can hold."""
        count = len(columns.texts)
        if not count:
            return
        batch = self._open.get(target)
        if batch is None:
            batch = self._begin(target)
        texts = batches.storable_texts(columns.texts)
        in_runs = len(batch.runs) > 0 or not batch.seqs
        batch.seqs.extend(range(columns.first, columns.first + count))
        batch.texts += texts
        first = columns.first
        for lines, micros, stream in columns.runs:
            at, name = batches.storable_time(micros, now), batches.storable_stream(stream)
            batch.micros += [at] * lines
            batch.streams += [name] * lines
            if in_runs:
                batch.runs.append((lines, first, at, name))
            first += lines
        self._count(batch, count, sum(map(len, texts)))

    def mark(self, number: int) -> None:
        """Tells the listener `number` as soon as everything that was added so far is stored or dropped."""
        self._mark = number
        if not self._lines:
            self._tell(number)

    def _begin(self, target: Target) -> _Batch:
        batch = self._open[target] = _Batch(target)
        self._work.set()
        return batch

    def _count(self, batch: _Batch, lines: int, chars: int) -> None:
        size = chars + lines * _LINE_OVERHEAD
        batch.size += size
        self._bytes += size
        self._lines += lines
        self._added += lines
        if len(batch.seqs) >= BATCH_LINES or batch.size >= BATCH_BYTES:
            self._closed.append(batch)
            del self._open[batch.target]

    @property
    def full(self) -> bool:
        """Whether the caller must wait for `room` before the next `add`."""
        return self._lines >= BUFFER_LINES or self._bytes >= BUFFER_BYTES

    async def room(self) -> None:
        """Waits until the buffer is not full. Needs a running writer."""
        while self.full:
            await self._next_progress()

    async def flush(self) -> None:
        """The barrier before a result: all lines added so far are stored or dropped then. Needs a running writer."""
        target = self._added
        while self._done < target:
            await self._next_progress()

    async def run(self) -> None:
        """Writes until cancelled; lines that are still buffered then are lost."""
        while True:
            await self._work.wait()
            self._work.clear()
            while taken := self._take():
                mark = self._mark
                for batch in taken:
                    await self._store(batch)
                    self._lines -= len(batch.seqs)
                    self._bytes -= batch.size
                    self._done += len(batch.seqs)
                    self._progress.set()
                self._tell(self._mark if not self._lines else mark)

    def discard(self) -> None:
        """The session is over and nobody runs this writer any more: lines that are still buffered are dropped, counted."""
        if self._lines:
            self._ingest.metrics.log_lines_dropped("flush_failed", self._lines)
            self._ingest.metrics.log_session_discarded()
            self._lines = 0

    def _tell(self, mark: int) -> None:
        if self._listener is not None and mark > self._told:
            self._told = mark
            self._listener.stored(mark)

    def _take(self) -> list[_Batch]:
        # Closed ones first: lines of one attempt are stored in the order they came.
        taken = [*self._closed, *self._open.values()]
        self._closed.clear()
        self._open.clear()
        return taken

    async def _next_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    async def _store(self, batch: _Batch) -> None:
        row = None
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(DatabaseUnavailableError),
            wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5.0),
            before_sleep=_say_waiting,
            sleep=asyncio.sleep,
        ):
            with attempt:
                async with self._ingest.writes:
                    row = await self._ingest.db.aio_run(lambda conn: self._insert(conn, batch))
        count = len(batch.seqs)
        if row is None:
            self._ingest.metrics.log_lines_dropped("snapshot_stale", count)
            if self._listener is not None:
                self._listener.stale(batch.target)
            return
        before, stored = row
        self._publish(batch, before, complete=stored == count)

    async def _insert(self, conn: Connection, batch: _Batch) -> tuple[int, int] | None:
        target, count = batch.target, len(batch.seqs)
        owner = (target.job_id, self._agent_id, target.attempt)
        if 0 < len(batch.runs) <= count // LONG_RUN:
            row = await conn.fetchrow(_SQL.insert_runs, *owner, count, *batch.stretches())
        else:
            row = await conn.fetchrow(_SQL.insert_lines, *owner, *batch.columns())
        return None if row is None else (row["before"], row["stored"])

    def _publish(self, batch: _Batch, before: int, *, complete: bool) -> None:
        hub, run_id = self._ingest.hub, batch.target.run_id
        if not hub.is_read(run_id):
            return
        last = before + len(batch.seqs)
        if complete:
            hub.publish(run_id, before + 1, last, chunks(before, batch.lines(before)))
        else:
            # Some lines were there already, under other cursors: the table knows which.
            hub.advance(run_id, last)


def _joined(texts: list[str]) -> tuple[str, str]:
    """A separator that is in none of the texts, and the texts with it before each."""
    separator = "\n"
    while True:
        text = separator + separator.join(texts)
        if text.count(separator) == len(texts):
            return separator, text
        separator = f"\x1e{secrets.token_hex(8)}\x1e"


def _say_waiting(attempt: tenacity.RetryCallState) -> None:
    if attempt.attempt_number == 1:
        _log.warning("log lines wait for the database")
