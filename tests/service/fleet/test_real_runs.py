"""The agent server with the real run service and scheduler: a run from its creation to the end of its event stream."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
import trio.testing
import trio_asyncio

from gocdnext.blobs.room import Blobs
from gocdnext.db import listener
from gocdnext.db.pool import Connection, Database
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.server import AgentServer
from gocdnext.logs.hub import LogHub
from gocdnext.logs.ingest import LogIngest
from gocdnext.logs.stream import stream
from gocdnext.metrics import Metrics
from gocdnext.pipeline import model
from gocdnext.proto import agent_pb2 as pb
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.scheduler import Scheduler
from gocdnext.runs.service import RunService
from gocdnext.runs.state import MAX_LOSSES, Job, Run
from tests.blob_room import blobs_in
from tests.secrets_room import secrets_of
from tests.service.fleet.conftest import REGISTRATION_TOKEN, Agent, Clock, Counted, agent
from tests.service.logs.seed import NOW, Seeded

PIPELINE = model.Pipeline(
    name="main",
    stages=("build",),
    jobs=tuple(
        model.Job(name=name, stage="build", kind="script", script="set -e\nmake", needs=needs)
        for name, needs in (("compile", ()), ("unit", ("compile",)))
    ),
    services=(model.Service(name="redis", image="redis:7"),),
)


class Whole:
    """Runs, scheduler, fleet and logs, wired as the server wires them."""

    def __init__(self, db: Database, blobs: Blobs) -> None:
        self.db = db
        self.hub = LogHub()
        self.shutdown = trio.Event()
        self.scheduler = Scheduler()
        self.registry = Registry(self.scheduler.wake_all, self.scheduler.slot_free)
        clock, metrics = Clock(), Counted()
        self.figures = Metrics()
        self.runs = RunService(db, self.registry, self, secrets=secrets_of(db), clock=clock, new_id=uuid4)
        self.agents = AgentServer(
            db,
            self.runs,
            self.registry,
            LogIngest(db, self.hub, metrics),
            metrics,
            blobs=blobs,
            registration_token=REGISTRATION_TOKEN,
            clock=clock,
            new_id=uuid4,
        )
        self.wake = self.scheduler.wake
        self.wake_pipeline = self.scheduler.wake_pipeline
        self.waits = self.scheduler.waits
        self.announced = self.scheduler.announced
        self.port = 0

    def job_started(self, run: Run, job: Job) -> None:
        pass

    def job_ended(self, run: Run, job: Job) -> None:
        pass

    def run_ended(self, run_id: UUID, status: str) -> None:
        self.hub.poke()

    async def create_run(self) -> CreatedRun:
        project, pipeline, definition = uuid4(), uuid4(), uuid4()

        async def work(conn: Connection) -> None:
            await conn.execute(
                "INSERT INTO projects (id, slug, name, created_at, updated_at) VALUES ($1, 'p', 'P', $2, $2)",
                project,
                NOW,
            )
            await conn.execute(
                "INSERT INTO pipelines"
                " (id, project_id, name, definition_id, source, source_file, created_at, updated_at)"
                " VALUES ($1, $2, 'main', $3, '', 'main.yaml', $4, $4)",
                pipeline,
                project,
                definition,
                NOW,
            )
            await conn.execute(
                "INSERT INTO pipeline_definitions (id, pipeline_id, version, definition, created_at)"
                " VALUES ($1, $2, 1, $3, $4)",
                definition,
                pipeline,
                msgspec.to_builtins(PIPELINE),
                NOW,
            )

        await self.db.transaction(work)
        return await self.runs.create(NewRun(pipeline, "manual", "tests"))

    async def job(self, name: str) -> dict[str, object]:
        row = await self.db.fetchrow("SELECT * FROM job_runs WHERE name = $1", name)
        assert row is not None
        return dict(row)


@pytest.fixture
async def whole(db: Database, tmp_path: Path) -> AsyncIterator[Whole]:
    whole = Whole(db, blobs_in(tmp_path, db))
    async with trio.open_nursery() as nursery:
        await nursery.start(whole.hub.run, db, whole.shutdown)
        await nursery.start(whole.scheduler.run, db, whole.runs, whole.registry)
        whole.port = await nursery.start(whole.agents.run, "127.0.0.1", 0)
        yield whole
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def ready(whole: Whole) -> AsyncIterator[Agent]:
    async with agent(whole) as client:  # type: ignore[arg-type]
        await client.register(capacity=1)
        await client.connect()
        yield client


async def do_job(client: Agent, lines: int) -> str:
    """Takes one assignment, prints, succeeds; the job's name."""
    assigned = (await client.receive()).assign
    for seq in range(1, lines + 1):
        line = pb.LogLine(run_id=assigned.run_id, job_id=assigned.job_id, seq=seq, stream="stdout", text=f"line {seq}")
        await client.send(pb.AgentMessage(log=line))
    result = pb.JobResult(run_id=assigned.run_id, job_id=assigned.job_id, status=pb.RUN_STATUS_SUCCESS)
    await client.send(pb.AgentMessage(result=result))
    assert [service.name for service in assigned.services] == ["redis"]
    return str(assigned.name)


async def test_a_run_from_creation_to_the_end_of_its_stream(whole: Whole) -> None:
    created = await whole.create_run()
    events: list[bytes] = []

    async def read() -> None:
        pieces = stream(whole.hub, whole.db, created.run_id, 0, whole.shutdown)
        async with contextlib.aclosing(pieces):  # type: ignore[type-var]
            events.extend([piece async for piece in pieces])

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            # One slot: the second job comes when the first has freed it, without any tick.
            async with ready(whole) as client:
                assert [await do_job(client, 3), await do_job(client, 2)] == ["compile", "unit"]
    text = b"".join(events)
    assert text.count(b"event: log\n") == 5
    assert text.endswith(b'event: end\ndata: {"run_id":"%s","status":"success"}\n\n' % str(created.run_id).encode())


async def test_an_agent_that_comes_back_repeats_its_job(whole: Whole) -> None:
    await whole.create_run()
    async with ready(whole) as client:
        first = (await client.receive()).assign
        await client.register(capacity=1)
        await client.connect()
        again = (await client.receive()).assign
        assert again.job_id == first.job_id
        assert (await whole.job("compile"))["attempt"] == 1


async def leased(whole: Whole, client: Agent, secret: str = "", held: tuple[pb.JobAssignment, ...] = ()) -> bool:
    """Registers as our own agents do and connects; whether it came back to its lease."""
    attempts = [pb.Attempt(run_id=job.run_id, job_id=job.job_id, attempt=job.attempt) for job in held]
    lease = pb.LeaseRequest(secret=secret, attempts=attempts)
    answer = await client.register(capacity=1, log_batches=True, lease=lease)
    await client.connect()
    return answer.lease.resumed


async def test_an_agent_with_a_lease_goes_on_with_its_job(whole: Whole) -> None:
    await whole.create_run()
    async with agent(whole) as first, agent(whole) as second:  # type: ignore[arg-type]
        await leased(whole, first)
        assigned = (await first.receive()).assign
        first.channel.close()
        assert await leased(whole, second, first.lease.secret, (assigned,))
        result = pb.JobResult(run_id=assigned.run_id, job_id=assigned.job_id, status=pb.RUN_STATUS_SUCCESS)
        await second.send(pb.AgentMessage(result=result))
        # The next job of the run comes to the slot that it has freed.
        assert (await second.receive()).assign.name == "unit"
    job = await whole.job("compile")
    assert (job["status"], job["attempt"]) == ("success", 0)


async def test_an_assignment_that_never_arrived_is_made_again_and_costs_nothing(whole: Whole) -> None:
    await whole.create_run()
    async with contextlib.AsyncExitStack() as stack:
        secret = ""
        for attempt in range(MAX_LOSSES + 2):
            client = await stack.enter_async_context(agent(whole))  # type: ignore[arg-type]
            # It comes back without the job each time, as when the connection broke under the assignment.
            assert await leased(whole, client, secret) == bool(secret)
            assigned = (await client.receive()).assign
            assert (assigned.name, assigned.attempt) == ("compile", attempt)
            secret = client.lease.secret
            client.channel.close()
    job = await whole.job("compile")
    assert (job["status"], job["losses"]) == ("running", 0)


async def test_a_cancel_that_the_agent_missed_ends_a_job_that_it_does_not_have(whole: Whole) -> None:
    await whole.create_run()
    async with agent(whole) as first, agent(whole) as second:  # type: ignore[arg-type]
        await leased(whole, first)
        assigned = (await first.receive()).assign
        first.channel.close()
        await whole.runs.cancel_job(UUID(assigned.job_id))
        assert await leased(whole, second, first.lease.secret)
    assert (await whole.job("compile"))["status"] == "canceled"


async def test_the_reaper_waits_for_a_lease_and_what_it_took_is_not_given_back(whole: Whole) -> None:
    await whole.create_run()
    async with agent(whole) as first, agent(whole) as second:  # type: ignore[arg-type]
        await leased(whole, first)
        assigned = (await first.receive()).assign
        first.channel.close()
        with trio.fail_after(10):
            while await whole.db.fetchval("SELECT status FROM agents") != "offline":
                await trio.testing.wait_all_tasks_blocked(0.002)
        assert await whole.runs.reap() == 0
        await whole.db.execute("UPDATE agents SET last_seen_at = last_seen_at - interval '89 seconds'")
        assert await whole.runs.reap() == 0
        await whole.db.execute("UPDATE agents SET lease_seconds = 200")
        await whole.db.execute("UPDATE agents SET last_seen_at = last_seen_at - interval '100 seconds'")
        assert await whole.runs.reap() == 0
        await whole.db.execute("UPDATE agents SET lease_seconds = 75")
        assert await whole.runs.reap() == 1
        await whole.db.execute("UPDATE agents SET last_seen_at = now()")
        assert await leased(whole, second, first.lease.secret, (assigned,))
        assert list(second.lease.kept) == []
        again = (await second.receive()).assign
        assert (again.job_id, again.attempt) == (assigned.job_id, 1)


async def test_a_cancelled_job_is_stopped_at_its_agent(whole: Whole) -> None:
    await whole.create_run()
    async with ready(whole) as client:
        assigned = (await client.receive()).assign
        done = await whole.runs.cancel_job(UUID(assigned.job_id))
        assert done.signaled
        assert (await client.receive()).cancel.job_id == assigned.job_id
        seeded = Seeded(UUID(assigned.run_id), uuid4(), (UUID(assigned.job_id),))
        result = pb.JobResult(run_id=str(seeded.run_id), job_id=assigned.job_id, status=pb.RUN_STATUS_CANCELED)
        await client.send(pb.AgentMessage(result=result))
        await client.half_close()
        await client.end()
    assert (await whole.job("compile"))["status"] == "canceled"
    assert trio_asyncio.current_loop.get() is not None


async def test_the_end_of_a_run_with_services_asks_for_their_clean_up(whole: Whole, database_url: str) -> None:
    heard: list[str] = []
    channels: dict[str, Callable[[str], None]] = {"services_over": heard.append}
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run, {"dsn": database_url}, channels, lambda: None)
        created = await whole.create_run()
        async with ready(whole) as client:
            for _ in range(2):
                await do_job(client, 1)
            with trio.fail_after(20):
                while not heard:
                    await trio.testing.wait_all_tasks_blocked(0.002)
        nursery.cancel_scope.cancel()
    assert heard == [f"{created.run_id} 0"]
