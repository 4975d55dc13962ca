"""The server: what runs, in start order. Nested by lifetime, so that closing goes intake first, database last.

    trio-asyncio loop
    └─ database        embedded cluster or external URL, schema, pool, listener
       └─ services     scheduler, sweepers
          └─ intake    HTTP (drained with a deadline), agent server, local agent

Each part says when it is ready; a part that fails takes the process down with its cause.
"""

from __future__ import annotations

import gc
from typing import Any
from uuid import uuid4

import structlog
import trio
import trio_asyncio

from gocdnext import __version__, local_agent, systemd
from gocdnext.api import app, listen
from gocdnext.api.services import utc_now
from gocdnext.blobs.s3 import checking
from gocdnext.blobs.s3.store import S3Store
from gocdnext.config import Settings, format_address
from gocdnext.db import cluster, listener, pooling, schema
from gocdnext.db.dumps import Dumper
from gocdnext.db.pool import Database, open_pool
from gocdnext.db.statedir import StateDir
from gocdnext.logs import partitions as log_partitions
from gocdnext.outbound.client import Outbound
from gocdnext.runs.scheduler import Scheduler
from gocdnext.secrets import profile_file
from gocdnext.server import background, channels, wiring
from gocdnext.server.wiring import Rooms

_log = structlog.get_logger("server")
DRAIN = 1.5
"""Seconds that intake gets to end its streams after a stop was asked for."""


class Stop:
    """The wish to stop. Before serving began there is nothing to drain, so it cancels `everything`."""

    def __init__(self, everything: trio.CancelScope) -> None:
        self._everything = everything
        self.asked = trio.Event()
        self.serving = False

    def ask(self) -> None:
        if self.asked.is_set() or not self.serving:
            self._everything.cancel()
        self.asked.set()


async def serve(settings: Settings, state: StateDir, stop: Stop, with_local_agent: bool) -> None:
    """Everything from the database to the open doors, until a stop is asked for and intake is drained."""
    scheduler = Scheduler()
    async with trio.open_nursery() as database:
        connect = await _start_database(settings, state, database)
        async with (
            open_pool(connect, size=settings.pool_size) as db,
            Outbound(settings.outbound, utc_now) as outbound,
        ):
            await _bring_up_schema(db, settings, Dumper(state.path, connect, settings.pg_bindir))
            if settings.runner_profiles_file is not None:
                await profile_file.load(db, settings.runner_profiles_file, utc_now(), uuid4)
            identity = await wiring.identity_of(settings, state, db)
            rooms = wiring.wire(settings, state, db, identity, scheduler, outbound)
            if isinstance(rooms.api.blobs.store, S3Store):
                await checking.prepare(rooms.api.blobs.store)
            said = channels.heard(scheduler, rooms)
            await database.start(listener.run, connect, said, lambda: channels.look_again(scheduler, rooms))
            async with trio.open_nursery() as services:
                await services.start(rooms.api.access.kept.run)
                await services.start(rooms.api.default_profile.kept.run)
                await services.start(rooms.api.disks.run)
                await services.start(scheduler.run, db, rooms.runs, rooms.registry)
                await services.start(rooms.api.hub.run, db, rooms.shutdown)
                await services.start(rooms.fetching.run)
                services.start_soon(rooms.providers.run)
                background.start(settings, rooms, db, services)
                services.start_soon(systemd.watchdog, db)
                async with trio.open_nursery() as people:
                    async with trio.open_nursery() as agents:
                        await _take_in(settings, rooms, agents, people, with_local_agent)
                        # What is there by now stays: the collector need not look at all of it in every full pass, during
                        # which everybody waits.
                        gc.freeze()
                        stop.serving = True
                        await stop.asked.wait()
                        rooms.shutdown.set()
                        agents.cancel_scope.cancel()
                    people.cancel_scope.deadline = trio.current_time() + DRAIN
                services.cancel_scope.cancel()
        database.cancel_scope.cancel()


async def _start_database(settings: Settings, state: StateDir, nursery: trio.Nursery) -> dict[str, Any]:
    """The keyword arguments for connections, once the database answers."""
    if settings.database_url is None:
        embedded = cluster.ClusterSettings(state, settings.pool_size, settings.pg_bindir)
        connect: dict[str, Any] = await nursery.start(cluster.run, embedded)
        return connect
    connect = {"dsn": settings.database_url}
    await trio_asyncio.aio_as_trio(pooling.check)(connect)
    return connect


async def _bring_up_schema(db: Database, settings: Settings, dumper: Dumper) -> None:
    """An embedded database is dumped before it is changed; backups of an external one are its operator's."""
    embedded = settings.database_url is None
    if not embedded:
        await db.run(cluster.check_external)
    wanted = dumper if embedded and settings.dump_before_migration else None
    applied = await schema.bring_up(db, utc_now(), dumper=wanted, state=dumper.state if embedded else None)
    if applied:
        _log.info("schema brought up to date", migrations=applied)
    await log_partitions.ensure(db, utc_now(), settings.log_months_ahead)


async def _take_in(
    settings: Settings, rooms: Rooms, agents: trio.Nursery, people: trio.Nursery, with_local_agent: bool
) -> None:
    """Opens the doors; READY=1 when both are open."""
    grpc_host = settings.grpc_addr[0]
    grpc_port = await agents.start(rooms.agents.run, *settings.grpc_addr)
    http_port = await people.start(listen.run, app.create_app(rooms.api), settings.http_addr, rooms.shutdown)
    if with_local_agent:
        work_root = settings.state_dir / "agent"
        agents.start_soon(local_agent.run, (grpc_host, grpc_port), rooms.registration_token, work_root)
    systemd.notify("READY=1")
    _log.info(
        "serving",
        version=__version__,
        http=f"http://{format_address((settings.http_addr[0], http_port))}",
        agents=format_address((grpc_host, grpc_port)),
        state=str(settings.state_dir),
        authentication="on" if settings.auth_enabled else "off",
    )
