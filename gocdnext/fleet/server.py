"""The agent server: listens, keeps presence up to date, and stops without waiting for any agent (design 9, 20)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog
import trio
import trio_asyncio
from grpclib.config import Configuration
from grpclib.const import Status

from gocdnext.blobs.room import Blobs
from gocdnext.db import queries
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.fleet.conversation import Conversations
from gocdnext.fleet.forgotten import Forgotten
from gocdnext.fleet.lease import LEASE_SECONDS
from gocdnext.fleet.ports import FleetMetrics, Runs
from gocdnext.fleet.register import Registration
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.service import AgentService
from gocdnext.fleet.tickets import Tickets
from gocdnext.fleet.wire import BoundedServer
from gocdnext.logs.ingest import LogIngest

PRESENCE_SECONDS = 5.0
"""How often `last_seen_at` is written for the agents that were heard of; part of `runs.service.LEASE_LAG`."""
LOOK_EVERY = 6
"""Writes between two looks for jobs that no session knows of."""
SILENCE = timedelta(seconds=90)
"""A session that was not heard of for so long is over: its agent is gone, whatever TCP says."""
IDLE_CONNECTION_SECONDS = 60.0
STOP_SECONDS = 2.0
"""How long streams may take to store what they have received when the server stops."""
STREAM_WINDOW = 1024 * 1024
CONNECTION_WINDOW = 4 * 1024 * 1024
"""Larger than a stream's, so that a stream that waits for the database leaves room for other calls."""

_SQL = queries.load("fleet")
_log = structlog.get_logger(__name__)


class AgentServer:
    """The gRPC server for agents. `registry` is the Fleet of the run service."""

    def __init__(
        self,
        db: Database,
        runs: Runs,
        registry: Registry,
        ingest: LogIngest,
        metrics: FleetMetrics,
        *,
        blobs: Blobs,
        registration_token: str | None,
        lease_seconds: int = LEASE_SECONDS,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        """`lease_seconds` is what agents are granted that can keep their jobs through a break; 0: nothing."""
        self._db = db
        self._registry = registry
        self._clock = clock
        self._conversations = Conversations(
            db, runs, registry, ingest, metrics, blobs.store, clock=clock, new_id=new_id
        )
        registration = Registration(
            db,
            runs,
            registry,
            registration_token=registration_token,
            lease_seconds=lease_seconds,
            clock=clock,
            new_id=new_id,
        )
        tickets = Tickets(db, registry, blobs.links, clock=clock, new_id=new_id)
        self._service = AgentService(registration, self._conversations, tickets, registry, metrics)
        self._forgotten = Forgotten(runs, registry)

    async def run(self, host: str, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled, then ends every stream with UNAVAILABLE. The started value is the bound port.

        Raises OSError when the address cannot be had. Wants an open trio-asyncio loop.
        """
        server: BoundedServer = await trio_asyncio.aio_as_trio(self._listen)(host, port)
        try:
            task_status.started(server.port)
            for turn in itertools.count(1):
                await trio.sleep(PRESENCE_SECONDS)
                await self.keep_presence()
                if turn % LOOK_EVERY == 0:
                    await self.look_for_forgotten()
                trio_asyncio.current_loop.get().call_soon(server.close_idle, IDLE_CONNECTION_SECONDS)
        finally:
            # Shielded and bounded by STOP_SECONDS: what agents have sent is stored, then they are cut off.
            with trio.CancelScope(shield=True):
                with trio.move_on_after(STOP_SECONDS / 4):
                    await self.keep_presence()  # leases begin now, not at the last turn
                await trio_asyncio.aio_as_trio(self._stop)(server)

    async def keep_presence(self) -> None:
        """Ends silent sessions, writes when the others were heard of, and learns which were disabled or fenced."""
        now = self._clock()
        sessions = [session for session in self._registry.sessions() if session.ending is None]
        for session in sessions:
            if now - session.seen > SILENCE:
                session.end(Status.UNAVAILABLE, f"nothing was heard for {SILENCE.total_seconds():g} seconds")
                self._registry.remove(session)
        sessions = [session for session in sessions if session.ending is None]
        if not sessions:
            return
        try:
            rows = await self._db.fetch(
                _SQL.touch_agents,
                [session.agent_id for session in sessions],
                [session.generation for session in sessions],
                [session.seen for session in sessions],
            )
        except DatabaseUnavailableError as error:
            _log.warning("agents' presence was not written", error=str(error))
            return
        disabled = {row["id"]: row["disabled"] for row in rows}
        for session in sessions:
            if session.agent_id in disabled:
                self._registry.set_disabled(session, disabled[session.agent_id])
            elif session.ending is None:
                session.end(Status.ABORTED, "the session was superseded elsewhere", superseded=True)
                self._registry.remove(session)

    async def look_for_forgotten(self) -> None:
        """Takes back jobs that agents of this server were given and do not have."""
        try:
            await self._forgotten.look()
        except DatabaseUnavailableError as error:
            _log.warning("jobs without an agent were not looked for", error=str(error))

    async def _listen(self, host: str, port: int) -> BoundedServer:
        config = Configuration(http2_stream_window_size=STREAM_WINDOW, http2_connection_window_size=CONNECTION_WINDOW)
        server = BoundedServer([self._service], config=config)
        await server.start(host, port)
        return server

    async def _stop(self, server: BoundedServer) -> None:
        self._conversations.stopping = True
        server.stop_listening()
        for session in self._registry.sessions():
            session.end(Status.UNAVAILABLE, "the server is stopping: register again")
        await self._conversations.stop(STOP_SECONDS)
        server.close_connections("the server is stopping")
