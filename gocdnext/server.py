"""The server: what runs, in start order. Nested by lifetime, so that closing goes intake first, database last.

    trio-asyncio loop
    └─ database        embedded cluster or external URL, schema, pool, listener
       └─ services     scheduler, sweepers
          └─ intake    HTTP (drained with a deadline), agent server, local agent

Each part says when it is ready; a part that fails takes the process down with its cause.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import structlog
import trio
import trio_asyncio

from gocdnext import __version__, config, journal, local_agent, systemd
from gocdnext.api import app, listen
from gocdnext.api.services import Services, utc_now
from gocdnext.auth import accounts, setup
from gocdnext.auth.providers.registry import Providers
from gocdnext.auth.room import Room
from gocdnext.blobs.room import open_blobs
from gocdnext.config import Settings, format_address
from gocdnext.db import cluster, listener, migrate, queries, statedir
from gocdnext.db.errors import DatabaseStartError, StateDirectoryError
from gocdnext.db.pool import Database, DatabaseUnavailableError, open_pool
from gocdnext.db.statedir import StateDir
from gocdnext.errors import DomainError
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.server import AgentServer
from gocdnext.fleet.tickets import addressed
from gocdnext.logs import partitions as log_partitions
from gocdnext.logs.hub import LogHub
from gocdnext.logs.ingest import LogIngest
from gocdnext.materials import access
from gocdnext.materials.access import Access
from gocdnext.materials.remotes import Remotes
from gocdnext.materials.webhooks.intake import Webhooks
from gocdnext.metrics import Metrics
from gocdnext.outbound.client import Outbound
from gocdnext.plugins import catalogue
from gocdnext.projects.sync import Configs
from gocdnext.providers.app_webhook import AppWebhook
from gocdnext.providers.reporter import Reporter
from gocdnext.providers.room import open_providers
from gocdnext.runs.scheduler import Scheduler
from gocdnext.runs.service import RunService
from gocdnext.runs.state import Job, Run
from gocdnext.secrets import keyfiles, profile_file, profiles
from gocdnext.secrets.profiles import DefaultProfile
from gocdnext.secrets.sealing import Keyring
from gocdnext.secrets.signing import SigningKeys
from gocdnext.secrets.store import Secrets
from gocdnext.secrets.stores.configured import Stores
from gocdnext.secrets.stores.fetching import Fetching
from gocdnext.sweepers import (
    archiver,
    blobs,
    clocks,
    configurations,
    deliveries,
    gates,
    partitions,
    polls,
    reaper,
    resealing,
    signins,
    statuses,
)
from gocdnext.sweeps import Board

_log = structlog.get_logger("server")
DRAIN = 1.5
"""Seconds that intake gets to end its streams after a stop was asked for."""
STOPPED, FAILED = 0, 1


def main(state_dir: Path | None, *, with_local_agent: bool) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code. Problems of the start are one sentence in the log."""
    journal.configure("info")
    # Keys and tokens are in memory here: nothing of it is to be left on a disk. Children inherit it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    code = STOPPED
    try:
        settings = config.load(state_dir=state_dir)
        journal.configure(settings.log_level)
        trio.run(_main, settings, with_local_agent)
    except* (DatabaseStartError, DatabaseUnavailableError, DomainError, OSError) as group:
        for error in _leaves(group):
            _log.error("the server cannot go on", error=str(error))
        code = FAILED
    return code


class _Stop:
    """The wish to stop. Before serving began there is nothing to drain, so it cancels `everything`."""

    def __init__(self, everything: trio.CancelScope) -> None:
        self._everything = everything
        self.asked = trio.Event()
        self.serving = False

    def ask(self) -> None:
        if self.asked.is_set() or not self.serving:
            self._everything.cancel()
        self.asked.set()


async def _main(settings: Settings, with_local_agent: bool) -> None:
    async with trio.open_nursery() as nursery:
        stop = _Stop(nursery.cancel_scope)
        # Before anything is started: a signal in the start-up gap must not leave a database behind.
        await nursery.start(_watch_signals, stop)
        try:
            with statedir.open_state(settings.state_dir) as state:
                async with trio_asyncio.open_loop():
                    await _serve(settings, state, stop, with_local_agent)
        except* DatabaseUnavailableError:
            # Of a start that was called off: the database went first, and whoever spoke with it heard that.
            if not stop.asked.is_set():
                raise
        nursery.cancel_scope.cancel()


async def _watch_signals(stop: _Stop, *, task_status: trio.TaskStatus[None]) -> None:
    """The first signal asks for a stop, the second one cancels whatever is still going on."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            _log.info("stopping", signal=signal.Signals(number).name)
            systemd.notify("STOPPING=1")
            stop.ask()


async def _serve(settings: Settings, state: StateDir, stop: _Stop, with_local_agent: bool) -> None:
    scheduler = Scheduler()
    async with trio.open_nursery() as database:
        connect = await _start_database(settings, state, database)
        async with (
            open_pool(connect, size=settings.pool_size) as db,
            Outbound(settings.outbound, utc_now) as outbound,
        ):
            await _bring_up_schema(db, settings)
            if settings.runner_profiles_file is not None:
                await profile_file.load(db, settings.runner_profiles_file, utc_now(), uuid4)
            rooms = _wire(settings, state, db, await _identity(settings, state, db), scheduler, outbound)
            channels = _channels(scheduler, rooms)
            await database.start(listener.run, connect, channels, lambda: _look_again(scheduler, rooms))
            async with trio.open_nursery() as services:
                await services.start(rooms.api.access.kept.run)
                await services.start(rooms.api.default_profile.kept.run)
                await services.start(scheduler.run, db, rooms.runs, rooms.registry)
                await services.start(rooms.api.hub.run, db, rooms.shutdown)
                await services.start(rooms.fetching.run)
                services.start_soon(rooms.providers.run)
                _start_sweepers(settings, rooms, db, services)
                services.start_soon(systemd.watchdog, db)
                async with trio.open_nursery() as people:
                    async with trio.open_nursery() as agents:
                        await _take_in(settings, rooms, agents, people, with_local_agent)
                        stop.serving = True
                        await stop.asked.wait()
                        rooms.shutdown.set()
                        agents.cancel_scope.cancel()
                    people.cancel_scope.deadline = trio.current_time() + DRAIN
                services.cancel_scope.cancel()
        database.cancel_scope.cancel()


def _start_sweepers(settings: Settings, rooms: _Rooms, db: Database, nursery: trio.Nursery) -> None:
    board, store = rooms.api.board, rooms.api.blobs.store
    cache_life = timedelta(days=settings.cache_days) if settings.cache_days else None
    retention = timedelta(seconds=settings.log_retention) if settings.log_retention else None
    ahead = settings.log_months_ahead
    nursery.start_soon(reaper.run, rooms.runs, board)
    nursery.start_soon(gates.run, rooms.runs, settings.approval_timeout, board)
    nursery.start_soon(lambda: partitions.run(db, ahead, utc_now, retention=retention, board=board))
    nursery.start_soon(archiver.run, db, store, settings.log_archive, utc_now, uuid4, board)
    nursery.start_soon(lambda: blobs.run(db, store, cache_life, utc_now, quotas=settings.quotas, board=board))
    nursery.start_soon(resealing.run, rooms.api.keyring, db, board)
    nursery.start_soon(clocks.run, db, rooms.runs, utc_now, board)
    nursery.start_soon(polls.run, db, rooms.runs, utc_now, rooms.api.configs.remotes.heads, board)
    nursery.start_soon(deliveries.run, db, utc_now, board)
    nursery.start_soon(signins.run, db, utc_now, board)
    nursery.start_soon(configurations.run, rooms.api.configs, board)
    if not settings.outbound.offline:
        nursery.start_soon(statuses.run, rooms.api.providers.reporter, db, utc_now)


@dataclass(frozen=True)
class _Rooms:
    runs: RunService
    registry: Registry
    agents: AgentServer
    api: Services
    providers: Providers
    shutdown: trio.Event
    registration_token: str
    fetching: Fetching


def _wire(
    settings: Settings, state: StateDir, db: Database, identity: Room, scheduler: Scheduler, outbound: Outbound
) -> _Rooms:
    """Makes the rooms and introduces them to each other."""
    shutdown = trio.Event()
    room = open_blobs(settings, db, settings.artifacts_key or state.ensure_key("artifact-links"))
    keyring = _keyring(settings, state)
    signing_in = Access(db, keyring)
    registry = Registry(
        scheduler.wake_all,
        scheduler.slot_free,
        lambda assignment: signing_in.dressed(addressed(assignment, room.links, utc_now())),
    )
    metrics = Metrics(registry.slots)
    hub = LogHub()
    ttl = timedelta(seconds=settings.oidc_token_ttl)
    signing_keys = SigningKeys(db, keyring, settings.public_base, ttl, clock=utc_now, new_id=uuid4)
    stores = Stores(db, keyring, outbound, settings, clock=utc_now, new_id=uuid4)
    fetching = Fetching(stores, scheduler.wake, ttl=settings.secret_cache_ttl)
    secrets = Secrets(db, keyring, signing_keys, fetching, clock=utc_now, new_id=uuid4)
    identity.providers = Providers(db, keyring, outbound, settings, utc_now)
    providers = open_providers(settings, db, keyring, outbound, metrics, utc_now)
    observer = _Observer(scheduler, metrics, hub, providers.reporter)
    runs = RunService(db, registry, observer, secrets=secrets, clock=utc_now, new_id=uuid4)
    registration_token = settings.agent_registration_token or state.ensure_key("agent-registration").hex()
    agents = AgentServer(
        db,
        runs,
        registry,
        LogIngest(db, hub, metrics),
        metrics,
        blobs=room,
        registration_token=registration_token,
        lease_seconds=settings.agent_lease,
        clock=utc_now,
        new_id=uuid4,
    )
    plugins = catalogue.load(catalogue.roots(settings.plugin_catalog_dir))
    configs = Configs(
        db,
        Remotes(outbound, signing_in.url, providers.accounts.of),
        keyring=keyring,
        catalogue=plugins,
        clock=utc_now,
        new_id=uuid4,
        resolved=metrics.pr_head_resolved,
    )
    api = Services(
        db=db,
        runs=runs,
        secrets=secrets,
        hub=hub,
        settings=settings,
        metrics=metrics,
        blobs=room,
        identity=identity,
        webhooks=Webhooks(db, runs, keyring, clock=utc_now, configs=configs),
        keyring=keyring,
        access=signing_in,
        last_pass=lambda: scheduler.last_pass,
        default_profile=DefaultProfile(db, secrets.tell_default),
        signing_keys=signing_keys,
        stores=stores,
        shutdown=shutdown,
        outbound=outbound,
        configs=configs,
        providers=providers,
        app_webhook=AppWebhook(db, runs, providers.apps, clock=utc_now, new_id=uuid4),
        catalogue=plugins,
        board=Board(utc_now, metrics),
    )
    return _Rooms(runs, registry, agents, api, identity.providers, shutdown, registration_token, fetching)


def _keyring(settings: Settings, state: StateDir) -> Keyring:
    """What secrets are sealed with: the keys that were said, else those of the state directory, which may change."""
    if settings.secret_keys:
        return Keyring(settings.secret_keys)
    state.ensure_key(keyfiles.NAME)
    return Keyring(keyfiles.read(state.path), lambda: keyfiles.read(state.path))


async def _identity(settings: Settings, state: StateDir, db: Database) -> Room:
    """The room of identity. While nobody can administer the server, it waits for the holder of the set-up code."""
    if not settings.auth_enabled:
        return Room(db, utc_now, uuid4)
    room = Room(db, utc_now, uuid4, operator_token=state.ensure_key("operator-token").hex())
    if await accounts.has_admin(room):
        state.drop_key(setup.KEY)
    else:
        room.setup_code = setup.make(state)
        _log.info(
            "there is no admin yet: make the first one with POST /auth/setup and this code, which works once",
            setup_code=room.setup_code.text,
        )
    return room


async def _start_database(settings: Settings, state: StateDir, nursery: trio.Nursery) -> dict[str, Any]:
    """The keyword arguments for connections, once the database answers."""
    if settings.database_url is None:
        embedded = cluster.ClusterSettings(state, settings.pool_size, settings.pg_bindir)
        connect: dict[str, Any] = await nursery.start(cluster.run, embedded)
        return connect
    return {"dsn": settings.database_url}


async def _bring_up_schema(db: Database, settings: Settings) -> None:
    async def work(conn: asyncpg.Connection[asyncpg.Record]) -> list[str]:
        if settings.database_url is not None:
            await cluster.check_external(conn)
        return await migrate.migrate(conn, queries.sql_dir() / "migrations", now=utc_now())

    applied = await db.run(work)
    if applied:
        _log.info("schema brought up to date", migrations=applied)
    await log_partitions.ensure(db, utc_now(), settings.log_months_ahead)


async def _take_in(
    settings: Settings, rooms: _Rooms, agents: trio.Nursery, people: trio.Nursery, with_local_agent: bool
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


class _Observer:
    """Tells scheduler, metrics, log readers and the reporter what happened to runs."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics, hub: LogHub, reporter: Reporter) -> None:
        self.wake = scheduler.wake
        self.wake_pipeline = scheduler.wake_pipeline
        self.waits = scheduler.waits
        self.announced = scheduler.announced
        self.figures = metrics
        self._hub = hub
        self._reporter = reporter

    def job_started(self, run: Run, job: Job) -> None:
        self._reporter.nudge()
        self.figures.job_scheduled(run.pipeline_id, run.project_id)

    def job_ended(self, run: Run, job: Job) -> None:
        if job.started_at is None:
            return  # it never ran: refused, skipped or cancelled while queued
        if job.finished_at is None:
            self.figures.job_left()
            return
        seconds = (job.finished_at - job.started_at).total_seconds()
        self.figures.job_ended(run.pipeline_id, run.project_id, job.status, seconds)

    def run_ended(self, run_id: UUID, status: str) -> None:
        self._hub.poke()
        self._reporter.nudge()


def _look_again(scheduler: Scheduler, rooms: _Rooms) -> None:
    """Word of other servers may have been missed."""
    scheduler.wake_all()
    rooms.api.signing_keys.forget()
    rooms.api.stores.forget()
    _take_keys(rooms.api.keyring)


def _take_keys(keyring: Keyring) -> None:
    """The key of secrets may have been rotated."""
    try:
        keyring.look_again()
    except (StateDirectoryError, ValueError) as error:
        _log.error("the keys of secrets cannot be read", error=str(error))


def _channels(scheduler: Scheduler, rooms: _Rooms) -> dict[str, Callable[[str], None]]:
    """What other servers on the same database say, and who listens. What cannot be read is nobody's word: it is left."""

    registry = rooms.registry

    def run_queued(payload: str) -> None:
        with contextlib.suppress(ValueError):
            scheduler.heard(UUID(payload))

    def stop_job(payload: str) -> None:
        with contextlib.suppress(ValueError):
            agent_id, run_id, job_id = map(UUID, payload.split(" "))
            registry.cancel(agent_id, run_id, job_id, "user canceled")

    def services_over(payload: str) -> None:
        with contextlib.suppress(ValueError):
            run_id, generation = payload.split(" ")
            registry.clean_up(UUID(run_id), int(generation))

    def agent_changed(payload: str) -> None:
        with contextlib.suppress(ValueError):
            agent_id, word = payload.split(" ")
            registry.told(UUID(agent_id), word == "disabled")

    return {
        "run_queued": run_queued,
        "stop_job": stop_job,
        "services_over": services_over,
        "agent_changed": agent_changed,
        "auth_providers_changed": lambda _: rooms.providers.changed(),
        access.CHANNEL: rooms.api.access.kept.poke,
        profiles.CHANNEL: rooms.api.default_profile.kept.poke,
        "secret_key_rotated": lambda _: _take_keys(rooms.api.keyring),
        "secret_backends_changed": lambda _: rooms.api.stores.forget(),
        "oidc_keys_rotated": lambda _: rooms.api.signing_keys.forget(),
    }


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
