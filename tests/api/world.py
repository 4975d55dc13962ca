"""The HTTP application as the server wires it: real run service, real database, real sockets, a scripted fleet."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

import httpx
import trio
import trio_asyncio
from quart_trio import QuartTrio

from gocdnext import config
from gocdnext.api import listen
from gocdnext.api.app import create_app
from gocdnext.api.services import Services, utc_now
from gocdnext.auth.providers.registry import Providers as SignInProviders
from gocdnext.auth.room import Room
from gocdnext.db.pool import Database, open_pool
from gocdnext.forges.app_webhook import AppWebhook
from gocdnext.forges.room import Forges, open_forges
from gocdnext.logs import partitions
from gocdnext.logs.hub import LogHub
from gocdnext.materials.access import Access
from gocdnext.materials.remotes import Remotes
from gocdnext.materials.webhooks.intake import Webhooks
from gocdnext.metrics import Metrics
from gocdnext.outbound.client import Outbound
from gocdnext.plugins.catalogue import NO_PLUGINS, Catalogue
from gocdnext.projects.sync import Configs
from gocdnext.runs.ports import Wanted
from gocdnext.runs.service import JobReport, RunService
from gocdnext.runs.state import Job, Run
from gocdnext.secrets.profiles import DefaultProfile
from gocdnext.secrets.stores.configured import Stores
from gocdnext.secrets.stores.fetching import Fetching
from gocdnext.sweeps import Board
from tests.api.conformance import conforming
from tests.blob_room import blobs_in
from tests.scenarios.fleet import ScriptedAgent, ScriptedFleet
from tests.secrets_room import KEYRING, secrets_of, signing_keys_of

NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
TOKEN = "operator-token-for-tests"
PIPELINE = """\
# a comment that stays
name: ci
materials:
  - manual: true
stages: [build, test]
jobs:
  compile:
    stage: build
    script: [make]
  unit:
    stage: test
    script: [make test]
"""


@dataclass
class World:
    """A served application and what is behind it. Also the observer of the run service."""

    db: Database
    hub: LogHub
    root: Path = Path()
    """The state directory."""
    app: QuartTrio | None = None
    services: Services = field(init=False)
    port: int = 0
    fleet: ScriptedFleet = field(default_factory=ScriptedFleet)
    metrics: Metrics = field(default_factory=Metrics)
    shutdown: trio.Event = field(default_factory=trio.Event)
    board: Board = field(default_factory=Board)
    now: datetime = field(default_factory=lambda: datetime(2026, 4, 28, 13, 0, tzinfo=UTC))
    forges: Forges = field(init=False)
    http: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)
    configs: Configs | None = None

    def __post_init__(self) -> None:
        self.identity = Room(self.db, self.clock, uuid4)
        self.secrets = secrets_of(self.db, lambda: self.now)
        self.runs = RunService(self.db, self.fleet, self, secrets=self.secrets, clock=self.clock, new_id=uuid4)

    def clock(self) -> datetime:
        return self.now

    def wake(self, run_id: UUID) -> None:
        """Tests dispatch by hand."""

    def announced(self, run_id: UUID) -> None:
        """Nobody listens here."""

    def waits(self, run_id: UUID, wanted: Wanted) -> None:
        """Tests dispatch by hand."""

    @property
    def figures(self) -> Metrics:
        return self.metrics

    def wake_pipeline(self, pipeline_id: UUID) -> None:
        """Tests dispatch by hand."""

    def job_started(self, run: Run, job: Job) -> None:
        self.metrics.job_scheduled(run.pipeline_id, run.project_id)

    def job_ended(self, run: Run, job: Job) -> None:
        self.metrics.job_left()

    def run_ended(self, run_id: UUID, status: str) -> None:
        self.hub.poke()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def apply(self, slug: str = "billing", files: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
        """Applies files and returns the answer."""
        entries = [{"name": name, "content": text} for name, text in (files or {"ci.yaml": PIPELINE}).items()]
        answer = await self.http.post("/api/v1/projects/apply", json={"slug": slug, "files": entries, **more})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def trigger(self, pipeline_id: str) -> str:
        """Starts a run and returns its id."""
        answer = await self.http.post(f"/api/v1/pipelines/{pipeline_id}/trigger")
        assert answer.status_code == 202, answer.text
        run_id: str = answer.json()["run_id"]
        return run_id

    async def agent_online(self, name: str = "any") -> ScriptedAgent:
        """Connects a scripted agent that the database knows."""
        agent = ScriptedAgent(uuid4(), name, frozenset(), 10)
        await self.db.execute(
            "INSERT INTO agents (id, name, token_hash, status, capacity, registered_at, last_seen_at)"
            " VALUES ($1, $2, '', 'online', 10, $3, $3)",
            agent.id,
            name,
            self.now,
        )
        self.fleet.agents[agent.id] = agent
        return agent

    async def finish_jobs(self, agent: ScriptedAgent, run_id: str, status: str = "success") -> None:
        """The agent reports every job it has of the run, until no more come."""
        while True:
            await self.runs.dispatch(UUID(run_id))
            mine = [made for made in agent.jobs.values() if made.run_id == UUID(run_id)]
            if not mine:
                return
            for made in mine:
                report = JobReport(
                    made.run_id, made.job_id, agent.id, made.attempt, status, 0 if status == "success" else 1
                )
                assert await self.runs.complete(report)


@contextlib.asynccontextmanager
async def served(
    database_url: str,
    tmp_path: Path,
    *,
    auth: bool = False,
    catalogue: Catalogue = NO_PLUGINS,
    variables: Mapping[str, str] = NO_VARIABLES,
    reads: bool = False,
    **connect: Any,
) -> AsyncIterator[World]:
    """A served application on a database; `variables` are more of its environment. With `reads`, pushes make it read
    configurations."""
    environ = {"GOCDNEXT_HTTP_ADDR": "127.0.0.1:0", "GOCDNEXT_STATE_DIR": str(tmp_path), **variables}
    settings = config.load(environ)
    async with (
        trio_asyncio.open_loop(),
        open_pool({"dsn": database_url, **connect}, size=5) as db,
        Outbound(settings.outbound, utc_now) as outbound,
    ):
        world = World(db, LogHub(), tmp_path)
        world.metrics.watch(world.fleet.slots)
        world.identity = Room(db, world.clock, uuid4, operator_token=TOKEN if auth else None)
        settings = replace(settings, auth_enabled=auth)
        world.identity.providers = SignInProviders(db, KEYRING, outbound, settings, world.clock)
        await world.identity.providers.reload()
        world.forges = open_forges(settings, db, KEYRING, outbound, world.metrics, world.clock)
        access = Access(db, KEYRING)
        configs = Configs(
            db,
            Remotes(outbound, access.url, world.forges.accounts.of),
            keyring=KEYRING,
            catalogue=catalogue,
            clock=world.clock,
            new_id=uuid4,
            resolved=world.metrics.pr_head_resolved,
        )
        world.configs = configs
        stores = Stores(db, KEYRING, outbound, settings, clock=world.clock, new_id=uuid4)
        fetching = Fetching(stores, world.wake, ttl=settings.secret_cache_ttl)
        world.secrets._fetching = fetching
        services = world.services = Services(
            db=db,
            runs=world.runs,
            secrets=world.secrets,
            hub=world.hub,
            settings=settings,
            metrics=world.metrics,
            blobs=blobs_in(tmp_path, db),
            identity=world.identity,
            # The repositories of the providers' examples are on no test's network: who wants them read says so.
            webhooks=Webhooks(db, world.runs, KEYRING, clock=world.clock, configs=configs if reads else None),
            keyring=KEYRING,
            access=access,
            default_profile=DefaultProfile(db, world.secrets.tell_default),
            stores=stores,
            signing_keys=signing_keys_of(db, world.clock, base=settings.public_base),
            shutdown=world.shutdown,
            outbound=outbound,
            configs=configs,
            forges=world.forges,
            app_webhook=AppWebhook(db, world.runs, world.forges.apps, clock=world.clock, new_id=uuid4),
            catalogue=catalogue,
            board=world.board,
            clock=world.clock,
        )
        async with trio.open_nursery() as beside:
            await beside.start(fetching.run)
            async with trio.open_nursery() as nursery:
                await nursery.start(world.hub.run, db, world.shutdown)
                world.app = create_app(services)
                with conforming(world.app):
                    world.port = await nursery.start(listen.run, world.app, settings.http_addr, world.shutdown)
                    async with httpx.AsyncClient(base_url=world.base, timeout=30) as world.http:
                        yield world
                world.shutdown.set()
            beside.cancel_scope.cancel()


async def partitioned(db: Database) -> None:
    """Makes the partitions that log lines of now need."""
    await partitions.ensure(db, datetime.now(UTC))


def repository(where: Path, files: Mapping[str, str], branch: str = "main") -> str:
    """A git repository with one commit; returns the commit."""
    where.mkdir(parents=True, exist_ok=True)
    git(where, "init", "--quiet", f"--initial-branch={branch}")
    return commit(where, files)


def commit(where: Path, files: Mapping[str, str]) -> str:
    """Writes files and commits them; returns the commit."""
    for name, text in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(where, "add", "--all")
    git(where, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message=change")
    return git(where, "rev-parse", "HEAD")


def git(where: Path, *arguments: str) -> str:
    """Runs git and returns its output."""
    done = subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def pipeline(name: str, **more: Any) -> str:
    """A small pipeline as YAML (JSON is YAML)."""
    body: dict[str, Any] = {
        "name": name,
        "materials": [{"manual": True}],
        "stages": ["build"],
        "jobs": {"compile": {"stage": "build", "script": ["make"]}},
    }
    return json.dumps({**body, **more})
