"""Connect: the life of one agent stream, from ready to offline (protocol-agent 1.6, 2.3). asyncio side."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import grpclib.server
import structlog
from grpclib.exceptions import GRPCError, StreamTerminatedError

from gocdnext.blobs import artifacts
from gocdnext.blobs.store import BlobStore
from gocdnext.db import queries
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.fleet.ports import FleetMetrics, Runs
from gocdnext.fleet.receive import Receiver
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.reports import Reports
from gocdnext.fleet.session import Session
from gocdnext.fleet.wire import messages_of
from gocdnext.logs.ingest import LogIngest, LogWriter, Target

FAREWELL_SECONDS = 5.0
"""Bound of what is done after a stream ended: its last lines, its row."""

Stream = grpclib.server.Stream[Any, Any]
_SQL = queries.load("fleet")
_log = structlog.get_logger(__name__)


class Conversations:
    """The open streams of this server and what remains to be done after those that ended."""

    def __init__(
        self,
        db: Database,
        runs: Runs,
        registry: Registry,
        ingest: LogIngest,
        metrics: FleetMetrics,
        store: BlobStore,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db = db
        self._confirm = partial(artifacts.confirm, db, store)
        self._reports = Reports(db, metrics, clock=clock, new_id=new_id)
        self._runs = runs
        self._registry = registry
        self._ingest = ingest
        self._metrics = metrics
        self._clock = clock
        self._open: set[asyncio.Task[Any]] = set()
        self._farewells: set[asyncio.Task[None]] = set()
        self.stopping = False
        """Set when the server stops: agents stay `online`, because they come back to the next server."""

    async def hold(self, session: Session, stream: Stream) -> None:
        """Talks with a claimed session until its stream ends. Raises GRPCError when it does not end with OK."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        # For all that is logged in this stream: it has a task of its own, and those below begin with what it knows.
        structlog.contextvars.bind_contextvars(agent=session.name, agent_id=session.agent_id)
        buffer = messages_of(stream)
        log = self._ingest.writer(session.agent_id, _Word(session, self._registry))
        receiver = Receiver(
            session,
            log,
            self._runs,
            self._metrics,
            confirm=self._confirm,
            reports=self._reports,
            clock=self._clock,
            finished=self._registry.finished,
        )
        receiving, drained, left = asyncio.create_task(receiver.run(buffer)), False, False
        writing = asyncio.create_task(log.run())
        try:
            await stream.send_initial_metadata()
            self._registry.make_ready(session)
            await self._talk(session, stream, receiving, writing)
            drained, left = not session.held, receiving.done()
        finally:
            if session.draining_since is not None:
                seconds = time.monotonic() - session.draining_since
                self._metrics.agent_drained("clean" if drained else "abandoned", seconds)
            self._registry.remove(session)
            # What has arrived still counts, also when the agent has vanished: these two end behind it, in the farewell.
            buffer.eof()
            farewell = asyncio.create_task(self._farewell(session, log, receiving, writing, left=left))
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)
            self._open.discard(task)

    async def stop(self, within: float) -> None:
        """Waits up to `within` seconds for streams that were told to end, and cancels what is left then."""
        deadline = asyncio.get_running_loop().time() + within
        for tasks in (self._open, self._farewells):
            left = deadline - asyncio.get_running_loop().time()
            if tasks:
                await asyncio.wait(tuple(tasks), timeout=max(left, 0.0))
        leftover = self._open | self._farewells
        for task in leftover:
            task.cancel()
        if leftover:
            await asyncio.wait(leftover, timeout=1.0)

    async def _talk(
        self, session: Session, stream: Stream, receiving: asyncio.Task[None], writing: asyncio.Task[None]
    ) -> None:
        """Until the agent has closed its side, something broke, or the session is ended from elsewhere."""
        sending = asyncio.create_task(_send(session, stream))
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        session.on_end = lambda: None if ended.done() else ended.set_result(None)
        try:
            if session.ending is None:
                await asyncio.wait({receiving, sending, writing, ended}, return_when=asyncio.FIRST_COMPLETED)
            if session.ending is not None:
                raise GRPCError(*session.ending)
            # A broken sender or writer raises here; a receiver that is done got the agent's half-close.
            for task in (writing, sending, receiving):
                if task.done():
                    task.result()
        finally:
            session.on_end = None
            ended.cancel()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _farewell(
        self,
        session: Session,
        log: LogWriter,
        receiving: asyncio.Task[None],
        writing: asyncio.Task[None],
        *,
        left: bool,
    ) -> None:
        """Finishes what was received, unless a newer session has taken over; then the agent is offline. One that has
        `left`, by closing its side, has no lease any more."""
        try:
            if not session.superseded:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FAREWELL_SECONDS):
                        await asyncio.wait({receiving, writing}, return_when=asyncio.FIRST_COMPLETED)
                        if not writing.done():
                            await log.flush()
        finally:
            receiving.cancel()
            writing.cancel()
            await asyncio.gather(receiving, writing, return_exceptions=True)
            log.discard()
        if session.superseded or self.stopping:
            return
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._db.aio_run(
                    lambda conn: conn.execute(_SQL.mark_offline, session.agent_id, session.generation, left)
                )
        except (DatabaseUnavailableError, TimeoutError) as error:
            # The reaper goes by `last_seen_at` and needs no help.
            _log.warning("agent not marked offline", agent=session.name, error=str(error))
        else:
            _log.info("agent offline", agent=session.name, generation=session.generation)


class _Word:
    """What the log writer tells an agent with a lease (`logs.ingest.Listener`)."""

    def __init__(self, session: Session, registry: Registry) -> None:
        self._session = session
        self._registry = registry

    def stored(self, mark: int) -> None:
        self._session.outbox.stored(mark)

    def stale(self, target: Target) -> None:
        session, job_id = self._session, str(target.job_id)
        held = session.held.get(job_id)
        if session.leased and held is not None and held.target == target:
            session.refuse(held.run_id, job_id, target.attempt)
            self._registry.finished(session, held)


async def _send(session: Session, stream: Stream) -> None:
    # A stream that broke is noticed by the call itself, which is cancelled with it.
    with contextlib.suppress(StreamTerminatedError):
        while True:
            await stream.send_message(await session.outbox.next())
