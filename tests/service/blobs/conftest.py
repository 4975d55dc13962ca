"""Everything an artifact goes through, as the server wires it: runs, scheduler, agent server, HTTP; a real store."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
import trio
import trio.testing

from gocdnext import config
from gocdnext.api import listen
from gocdnext.api.app import create_app
from gocdnext.api.services import Services
from gocdnext.auth.room import Room
from gocdnext.db.pool import Connection, Database
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.server import AgentServer
from gocdnext.fleet.tickets import addressed
from gocdnext.forges.app_webhook import AppWebhook
from gocdnext.forges.room import open_forges
from gocdnext.logs.hub import LogHub
from gocdnext.logs.ingest import LogIngest
from gocdnext.materials.access import Access, plainly
from gocdnext.materials.remotes import Remotes
from gocdnext.materials.webhooks.intake import Webhooks
from gocdnext.metrics import Metrics
from gocdnext.outbound.client import Outbound
from gocdnext.pipeline import model
from gocdnext.projects.sync import Configs
from gocdnext.proto import agent_pb2 as pb
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.scheduler import Scheduler
from gocdnext.runs.service import RunService
from gocdnext.runs.state import Job, Run
from gocdnext.secrets.profiles import DefaultProfile
from gocdnext.secrets.stores.configured import Stores
from tests.api.conformance import conforming
from tests.blob_room import BASE, blobs_in
from tests.secrets_room import KEYRING, secrets_of, signing_keys_of
from tests.service.fleet.conftest import REGISTRATION_TOKEN, Agent, Clock, agent, aio
from tests.service.logs.conftest import db as database_fixture
from tests.service.logs.seed import NOW

db = database_fixture


@dataclass(frozen=True)
class Delivered:
    """An artifact that was uploaded, and its bytes."""

    ticket: Any
    content: bytes

    @property
    def ref(self) -> pb.ArtifactRef:
        """What an honest agent says of it."""
        return pb.ArtifactRef(
            path=self.ticket.path,
            storage_key=self.ticket.storage_key,
            size=len(self.content),
            content_sha256=hashlib.sha256(self.content).hexdigest(),
        )


class Plant:
    """A server with a scripted agent in mind. Also the observer of the run service."""

    def __init__(self, db: Database, folder: Path, *, min_free: int = 0) -> None:
        self.db = db
        self.hub = LogHub()
        self.shutdown = trio.Event()
        self.clock = Clock()
        self.figures = self.metrics = Metrics()
        self.blobs = blobs_in(folder, db, min_free=min_free)
        self.root = folder / "artifacts"
        self.scheduler = Scheduler()
        self.registry = Registry(
            self.scheduler.wake_all,
            self.scheduler.slot_free,
            lambda made: addressed(made, self.blobs.links, self.clock()),
        )
        self.runs = RunService(db, self.registry, self, secrets=secrets_of(db), clock=self.clock, new_id=uuid4)
        self.agents = AgentServer(
            db,
            self.runs,
            self.registry,
            LogIngest(db, self.hub, self.metrics),
            self.metrics,
            blobs=self.blobs,
            registration_token=REGISTRATION_TOKEN,
            clock=self.clock,
            new_id=uuid4,
        )
        self.wake = self.scheduler.wake
        self.wake_pipeline = self.scheduler.wake_pipeline
        self.waits = self.scheduler.waits
        self.announced = self.scheduler.announced
        self.port = 0
        self.http: httpx.AsyncClient
        self.project = uuid4()

    def job_started(self, run: Run, job: Job) -> None:
        pass

    def job_ended(self, run: Run, job: Job) -> None:
        pass

    def run_ended(self, run_id: UUID, status: str) -> None:
        self.hub.poke()

    # ---- runs ----------------------------------------------------------------------------------------

    async def pipeline(self, name: str, jobs: Sequence[model.Job], materials: Sequence[model.Material] = ()) -> UUID:
        """A pipeline of these jobs, in a project of its own that all pipelines share."""
        pipeline, definition = uuid4(), uuid4()
        stages = tuple(dict.fromkeys(job.stage for job in jobs))
        made = model.Pipeline(name=name, stages=stages, jobs=tuple(jobs), materials=tuple(materials))

        async def work(conn: Connection) -> None:
            await conn.execute(
                "INSERT INTO projects (id, slug, name, created_at, updated_at) VALUES ($1, 'p', 'P', $2, $2)"
                " ON CONFLICT DO NOTHING",
                self.project,
                NOW,
            )
            await conn.execute(
                "INSERT INTO pipelines"
                " (id, project_id, name, definition_id, source, source_file, created_at, updated_at)"
                " VALUES ($1, $2, $3, $4, '', 'main.yaml', $5, $5)",
                pipeline,
                self.project,
                name,
                definition,
                NOW,
            )
            await conn.execute(
                "INSERT INTO pipeline_definitions (id, pipeline_id, version, definition, created_at)"
                " VALUES ($1, $2, 1, $3, $4)",
                definition,
                pipeline,
                msgspec.json.decode(model.encode(made)),
                NOW,
            )
            for material in materials:
                fields = msgspec.to_builtins(material)
                await conn.execute(
                    "INSERT INTO materials (id, pipeline_id, type, fingerprint, config, created_at)"
                    " VALUES ($1, $2, $3, $4, $5, $6)",
                    uuid4(),
                    pipeline,
                    fields["type"],
                    fields["fingerprint"],
                    fields,
                    NOW,
                )

        await self.db.transaction(work)
        return pipeline

    async def start(self, pipeline: UUID, **fields: Any) -> CreatedRun:
        """A run of a pipeline."""
        return await self.runs.create(NewRun(pipeline, "manual", "tests", **fields))

    async def job(self, run_id: UUID, name: str) -> dict[str, Any]:
        """The row of a job."""
        row = await self.db.fetchrow("SELECT * FROM job_runs WHERE run_id = $1 AND name = $2", run_id, name)
        assert row is not None
        return dict(row)

    async def ended(self, run_id: UUID, name: str) -> dict[str, Any]:
        """The row of a job when it is finished."""
        with trio.fail_after(10):
            while (row := await self.job(run_id, name))["finished_at"] is None:
                await trio.testing.wait_all_tasks_blocked(0.002)
        return row

    # ---- the agent's side ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def agent(self, name: str = "runner", capacity: int = 4) -> AsyncIterator[Agent]:
        """An agent that is registered and connected."""
        async with agent(self) as client:  # type: ignore[arg-type]
            await client.register(name=name, capacity=capacity)
            await client.connect()
            yield client

    async def tickets(self, client: Agent, assigned: pb.JobAssignment, *paths: str) -> list[Any]:
        """Tickets for artifacts of an assignment."""
        request = pb.RequestArtifactUploadRequest(
            session_id=client.session_id, run_id=assigned.run_id, job_id=assigned.job_id, paths=paths
        )
        return list((await aio(client.stub.RequestArtifactUpload, request)).tickets)

    async def put(self, url: str, content: Any, **options: Any) -> httpx.Response:
        """Sends bytes to a link."""
        assert url.startswith(BASE)
        return await self.http.put(url.removeprefix(BASE), content=content, **options)

    async def get(self, url: str, **options: Any) -> httpx.Response:
        """Fetches a link."""
        assert url.startswith(BASE)
        return await self.http.get(url.removeprefix(BASE), **options)

    async def deliver(self, client: Agent, assigned: pb.JobAssignment, **contents: bytes) -> list[Delivered]:
        """Uploads artifacts as an agent does: one request for tickets, then one PUT for each."""
        tickets = await self.tickets(client, assigned, *contents)
        made = [Delivered(ticket, contents[ticket.path]) for ticket in tickets]
        for each in made:
            answer = await self.put(each.ticket.put_url, each.content)
            assert (answer.status_code, answer.content) == (204, b""), answer.text
            assert answer.headers["x-artifact-size"] == str(len(each.content))
        return made

    async def report(
        self, client: Agent, assigned: pb.JobAssignment, *refs: pb.ArtifactRef, status: int = pb.RUN_STATUS_SUCCESS
    ) -> None:
        """The result of a job."""
        result = pb.JobResult(
            run_id=assigned.run_id,
            job_id=assigned.job_id,
            status=status,  # type: ignore[arg-type]
            artifacts=refs,
        )
        await client.send(pb.AgentMessage(result=result))

    def files(self) -> list[str]:
        """What lies in the store, uploads under way included."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


async def nobody(place: object, token: str) -> None:
    """No provider is called for any repository."""


@contextlib.asynccontextmanager
async def running_plant(db: Database, folder: Path, **options: Any) -> AsyncIterator[Plant]:
    """A plant whose doors are open."""
    plant = Plant(db, folder, **options)
    settings = config.load({"GOCDNEXT_HTTP_ADDR": "127.0.0.1:0", "GOCDNEXT_STATE_DIR": str(folder)})
    outbound = Outbound(settings.outbound, plant.clock)
    services = Services(
        db=db,
        runs=plant.runs,
        hub=plant.hub,
        settings=replace(settings, artifacts_base=BASE),
        metrics=plant.metrics,
        blobs=plant.blobs,
        identity=Room(db, plant.clock, uuid4),
        secrets=secrets_of(db),
        webhooks=Webhooks(db, plant.runs, KEYRING, clock=plant.clock),
        keyring=KEYRING,
        access=Access(db, KEYRING),
        default_profile=DefaultProfile(db, lambda _: None),
        signing_keys=signing_keys_of(db, plant.clock),
        stores=Stores(db, KEYRING, outbound, settings, clock=plant.clock, new_id=uuid4),
        shutdown=plant.shutdown,
        outbound=outbound,
        configs=Configs(
            db,
            Remotes(outbound, plainly, nobody),
            keyring=KEYRING,
            clock=plant.clock,
            new_id=uuid4,
            resolved=plant.metrics.pr_head_resolved,
        ),
        forges=(forges := open_forges(settings, db, KEYRING, outbound, plant.metrics, plant.clock)),
        app_webhook=AppWebhook(db, plant.runs, forges.apps, clock=plant.clock, new_id=uuid4),
        clock=plant.clock,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(plant.hub.run, db, plant.shutdown)
        await nursery.start(plant.scheduler.run, db, plant.runs, plant.registry)
        plant.port = await nursery.start(plant.agents.run, "127.0.0.1", 0)
        app = create_app(services)
        with conforming(app):
            port = await nursery.start(listen.run, app, settings.http_addr, plant.shutdown)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as plant.http:
                yield plant
        plant.shutdown.set()
        nursery.cancel_scope.cancel()


@pytest.fixture
async def plant(db: Database, tmp_path: Path) -> AsyncIterator[Plant]:
    async with running_plant(db, tmp_path) as plant:
        yield plant


def job(name: str, stage: str = "build", **fields: Any) -> model.Job:
    """A small job."""
    return model.Job(name=name, stage=stage, kind="script", script="set -e\nmake", **fields)
