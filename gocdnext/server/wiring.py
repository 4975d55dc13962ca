"""Makes the rooms of a server from its settings and introduces them to each other. Starts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import structlog
import trio

from gocdnext.api.services import Services, utc_now
from gocdnext.auth import accounts, setup
from gocdnext.auth.providers.registry import Providers
from gocdnext.auth.room import Room
from gocdnext.blobs.filesystem import FilesystemStore
from gocdnext.blobs.room import Blobs, open_blobs
from gocdnext.config import Settings
from gocdnext.db.pool import Database
from gocdnext.db.statedir import StateDir
from gocdnext.disks import Disks, Place
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.server import AgentServer
from gocdnext.fleet.tickets import addressed
from gocdnext.forges.app_webhook import AppWebhook
from gocdnext.forges.room import open_forges
from gocdnext.logs.hub import LogHub
from gocdnext.logs.ingest import LogIngest
from gocdnext.materials.access import Access
from gocdnext.materials.remotes import Remotes
from gocdnext.materials.webhooks.intake import Webhooks
from gocdnext.metrics import Metrics
from gocdnext.outbound.client import Outbound
from gocdnext.plugins import catalogue
from gocdnext.projects.sync import Configs
from gocdnext.runs.scheduler import Scheduler
from gocdnext.runs.service import RunService
from gocdnext.secrets import keyfiles
from gocdnext.secrets.profiles import DefaultProfile
from gocdnext.secrets.sealing import Keyring
from gocdnext.secrets.signing import SigningKeys
from gocdnext.secrets.store import Secrets
from gocdnext.secrets.stores.configured import Stores
from gocdnext.secrets.stores.fetching import Fetching
from gocdnext.server.observer import Observer
from gocdnext.sweeps import Board

_log = structlog.get_logger("server")


@dataclass(frozen=True)
class Rooms:
    runs: RunService
    registry: Registry
    agents: AgentServer
    api: Services
    providers: Providers
    shutdown: trio.Event
    registration_token: str
    fetching: Fetching


def wire(
    settings: Settings, state: StateDir, db: Database, identity: Room, scheduler: Scheduler, outbound: Outbound
) -> Rooms:
    """Makes the rooms and introduces them to each other."""
    shutdown = trio.Event()
    room = open_blobs(settings, db, settings.artifacts_key or state.ensure_key("artifact-links"), outbound, utc_now)
    keyring = _keyring(settings, state)
    signing_in = Access(db, keyring)
    disks = _disks(settings, room, scheduler)
    registry = Registry(
        scheduler.wake_all,
        scheduler.slot_free,
        lambda assignment: signing_in.dressed(addressed(assignment, room.links, utc_now())),
        disks.holds_jobs,
    )
    metrics = Metrics(registry.slots)
    metrics.watch_disks(lambda: disks.readings)
    hub = LogHub()
    ttl = timedelta(seconds=settings.oidc_token_ttl)
    signing_keys = SigningKeys(db, keyring, settings.public_base, ttl, clock=utc_now, new_id=uuid4)
    stores = Stores(db, keyring, outbound, settings, clock=utc_now, new_id=uuid4)
    fetching = Fetching(stores, scheduler.wake, ttl=settings.secret_cache_ttl)
    secrets = Secrets(db, keyring, signing_keys, fetching, clock=utc_now, new_id=uuid4)
    identity.providers = Providers(db, keyring, outbound, settings, utc_now)
    forges = open_forges(settings, db, keyring, outbound, metrics, utc_now)
    observer = Observer(scheduler, metrics, hub, forges.reporter)
    runs = RunService(db, registry, observer, secrets=secrets, clock=utc_now, new_id=uuid4)
    registration_token = settings.agent_registration_token or state.ensure_key("agent-registration").hex()
    agents = AgentServer(
        db,
        runs,
        registry,
        LogIngest(db, hub, metrics, disks.holds_lines),
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
        Remotes(outbound, signing_in.url, forges.accounts.of),
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
        forges=forges,
        app_webhook=AppWebhook(db, runs, forges.apps, clock=utc_now, new_id=uuid4),
        catalogue=plugins,
        board=Board(utc_now, metrics),
        disks=disks,
    )
    return Rooms(runs, registry, agents, api, identity.providers, shutdown, registration_token, fetching)


def _disks(settings: Settings, room: Blobs, scheduler: Scheduler) -> Disks:
    """What is written to: the store of blobs where it is a directory, and the state with the embedded database."""
    mark = settings.disk_min_free
    places = [Place("state", settings.state_dir, jobs=mark, database=settings.database_url is None)]
    if isinstance(room.store, FilesystemStore):
        places.append(Place("artifacts", settings.artifacts_root, uploads=settings.artifacts_min_free, jobs=mark))
    return Disks(places, scheduler.wake_all)


def _keyring(settings: Settings, state: StateDir) -> Keyring:
    """What secrets are sealed with: the keys that were said, else those of the state directory, which may change."""
    if settings.secret_keys:
        return Keyring(settings.secret_keys)
    state.ensure_key(keyfiles.NAME)
    return Keyring(keyfiles.read(state.path), lambda: keyfiles.read(state.path))


async def identity_of(settings: Settings, state: StateDir, db: Database) -> Room:
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
