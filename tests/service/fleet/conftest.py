"""The real agent server on a real port and database; only the run service is scripted here.

The fleet's contract with it is the small protocol `fleet.ports.Runs`; that it is kept is tested with the real one in
the scenarios.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpclib.client
import pytest
import trio
import trio.testing
import trio_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from gocdnext.blobs.room import Blobs
from gocdnext.db.pool import Connection, Database
from gocdnext.fleet.lease import LEASE_SECONDS
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.server import AgentServer
from gocdnext.logs.hub import LogHub
from gocdnext.logs.ingest import LogIngest
from gocdnext.pipeline.model import Job
from gocdnext.proto import agent_pb2 as pb
from gocdnext.proto.agent_grpc import AgentServiceStub
from gocdnext.runs.assignment import Assignment
from gocdnext.runs.service import HeldJob, JobReport
from tests.blob_room import blobs_in
from tests.service.logs.conftest import db as database_fixture
from tests.service.logs.seed import Seeded, running_run

db = database_fixture
REGISTRATION_TOKEN = "let me in"


class Counted:
    """FleetMetrics that can be looked at."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.discarded = 0
        self.timed: Counter[str] = Counter()
        self.codes: Counter[tuple[str, str]] = Counter()
        self.drains: Counter[str] = Counter()
        self.invalid: Counter[str] = Counter()
        self.reports_dropped: Counter[tuple[str, str]] = Counter()

    def log_lines_dropped(self, reason: str, count: int) -> None:
        self.dropped[reason] += count

    def rpc_started(self, method: str) -> None:
        pass

    def log_session_discarded(self) -> None:
        self.discarded += 1

    def rpc_handled(self, method: str, code: str, seconds: float | None) -> None:
        self.codes[method, code] += 1
        if seconds is not None:
            self.timed[method] += 1

    def agent_drained(self, outcome: str, seconds: float) -> None:
        self.drains[outcome] += 1

    def report_dropped(self, kind: str, reason: str) -> None:
        self.reports_dropped[kind, reason] += 1

    def result_invalid(self, kind: str) -> None:
        self.invalid[kind] += 1


class ScriptedRuns:
    """A run service that stores a result as the real one does, in one compare-and-set, and says what it was asked."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.reports: list[tuple[JobReport, bool]] = []
        self.reclaimed: list[UUID] = []
        self.taken_back: list[tuple[UUID, int]] = []
        self.cancels: list[tuple[UUID, UUID]] = []
        self.gate = trio.Event()
        """Results wait for it."""
        self.gate.set()
        self.lines_at_completion: list[int] = []

    async def complete(self, report: JobReport) -> bool:
        await self.gate.wait()

        async def work(conn: Connection) -> tuple[bool, int]:
            lines = await conn.fetchval("SELECT count(*) FROM log_lines WHERE job_run_id = $1", report.job_id)
            tag = await conn.execute(
                "UPDATE job_runs SET status = $4, exit_code = $5, finished_at = now()"
                " WHERE id = $1 AND agent_id = $2 AND attempt = $3 AND status = 'running'",
                report.job_id,
                report.agent_id,
                report.attempt,
                "queued" if report.status == "disrupted" else report.status,
                report.exit_code,
            )
            return tag == "UPDATE 1", lines

        stored, lines = await self._db.transaction(work)
        self.reports.append((report, stored))
        self.lines_at_completion.append(lines)
        return stored

    async def complete_at_once(self, report: JobReport) -> bool:
        """Nothing: `complete` is what these tests watch."""
        return False

    async def reclaim(self, agent_id: UUID) -> None:
        self.reclaimed.append(agent_id)

    async def resume(self, agent_id: UUID, has: Collection[tuple[UUID, int]]) -> list[HeldJob]:
        kept = []
        for _, run_id, job_id, attempt in await self.running([agent_id]):
            if (job_id, attempt) in has:
                kept.append(HeldJob(run_id, job_id, attempt, (run_id, job_id) in self.cancels))
            else:
                await self.forgotten(agent_id, run_id, job_id, attempt)
        return kept

    async def running(self, agent_ids: Collection[UUID]) -> list[tuple[UUID, UUID, UUID, int]]:
        rows = await self._db.fetch(
            "SELECT agent_id, run_id, id, attempt FROM job_runs WHERE agent_id = any($1) AND status = 'running'"
            " ORDER BY name",
            list(agent_ids),
        )
        return [tuple(row.values()) for row in rows]

    async def forgotten(self, agent_id: UUID, run_id: UUID, job_id: UUID, attempt: int) -> None:
        self.taken_back.append((job_id, attempt))
        await self._db.execute(
            "UPDATE job_runs SET status = 'queued', agent_id = NULL, attempt = attempt + 1 WHERE id = $1", job_id
        )

    async def pending_cancels(self, agent_id: UUID) -> list[tuple[UUID, UUID]]:
        return self.cancels


class Clock:
    """The server's clock, which can be moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class Fleet:
    """A running agent server and everything around it."""

    def __init__(self, db: Database, blobs: Blobs, *, lease_seconds: int = LEASE_SECONDS) -> None:
        self.db = db
        self.blobs = blobs
        self.clock = Clock()
        self.metrics = Counted()
        self.runs = ScriptedRuns(db)
        self.hub = LogHub()
        self.woken = 0
        self.freed = 0
        self.registry = Registry(self._ready, self._free)
        self.server = AgentServer(
            db,
            self.runs,
            self.registry,
            LogIngest(db, self.hub, self.metrics),
            self.metrics,
            blobs=blobs,
            registration_token=REGISTRATION_TOKEN,
            lease_seconds=lease_seconds,
            clock=self.clock,
            new_id=uuid4,
        )
        self.port = 0

    def _ready(self) -> None:
        self.woken += 1

    def _free(self) -> None:
        self.freed += 1

    def agent(self) -> contextlib.AbstractAsyncContextManager[Agent]:
        """A client that is not registered yet."""
        return agent(self)

    @contextlib.asynccontextmanager
    async def ready_agent(self, name: str = "runner", capacity: int = 2) -> AsyncIterator[Agent]:
        """An agent that is registered and connected."""
        async with self.agent() as client:
            await client.register(name=name, capacity=capacity)
            await client.connect()
            yield client

    @contextlib.asynccontextmanager
    async def leased_agent(self, name: str = "runner", capacity: int = 2) -> AsyncIterator[Agent]:
        """An agent of our own that is registered and connected."""
        async with self.agent() as client:
            await client.register_leased(name, capacity=capacity)
            await client.connect()
            yield client

    async def running(self, client: Agent, jobs: int = 1) -> Seeded:
        """A run whose jobs were assigned to this agent; the frames have arrived."""
        seeded = await running_run(self.db, jobs, agent_id=await self.agent_id(client.name))
        for job_id in seeded.job_ids:
            assert self.registry.assign(client.session_id, assignment(seeded.run_id, job_id))
            assert (await client.receive()).assign.job_id == str(job_id)
        return seeded

    async def agent_id(self, name: str) -> UUID:
        found: UUID = await self.db.fetchval("SELECT id FROM agents WHERE name = $1", name)
        return found

    async def agent_row(self, name: str) -> dict[str, object]:
        row = await self.db.fetchrow("SELECT * FROM agents WHERE name = $1", name)
        assert row is not None
        return dict(row)

    async def until_status(self, name: str, status: str) -> None:
        """Waits until the agent's row has this status."""
        with trio.fail_after(10):
            while (await self.agent_row(name))["status"] != status:
                await trio.testing.wait_all_tasks_blocked(0.002)


def assignment(run_id: UUID, job_id: UUID, attempt: int = 0) -> Assignment:
    """The smallest assignment."""
    job = Job(name="job", stage="build", kind="script", script="set -e\ntrue")
    return Assignment(run_id=run_id, job_id=job_id, attempt=attempt, definition=job, env={"CI": "true"})


class Agent:
    """An agent's side of the wire, on grpclib's client; for trio code."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.channel = channel
        self.stub = AgentServiceStub(channel)
        self.stream: grpclib.client.Stream[pb.AgentMessage, pb.ServerMessage]
        self.session_id = ""
        self.lease = pb.Lease()
        self.name = ""

    async def register(
        self, name: str = "runner", token: str = REGISTRATION_TOKEN, **fields: object
    ) -> pb.RegisterResponse:
        self.name = name
        request = pb.RegisterRequest(agent_id=name, token=token, **fields)  # type: ignore[arg-type]
        response: pb.RegisterResponse = await aio(self.stub.Register, request)
        self.session_id = response.session_id
        self.lease = response.lease
        return response

    async def register_leased(
        self, name: str = "runner", *, secret: str = "", attempts: Sequence[tuple[Seeded, int]] = (), **fields: object
    ) -> pb.RegisterResponse:
        """As our own agents do; `attempts` are jobs of runs, by their number, in attempt 0."""
        named = [pb.Attempt(run_id=str(run.run_id), job_id=str(run.job_ids[job])) for run, job in attempts]
        lease = pb.LeaseRequest(secret=secret, attempts=named)
        return await self.register(name, log_batches=True, lease=lease, **fields)

    async def connect(self, session_id: str | None = None, *, metadata: object = None) -> None:
        """Opens the stream and waits for the server's headers: the session is ready then."""
        if metadata is None:
            metadata = [("x-gocdnext-session", session_id or self.session_id)]
        self.stream = self.stub.Connect.open(metadata=metadata)  # type: ignore[arg-type]
        await aio(self.stream.__aenter__)
        await aio(self.stream.send_request)
        with self._status_kept():
            await aio(self.stream.recv_initial_metadata)

    async def send(self, *messages: pb.AgentMessage) -> None:
        async def work() -> None:
            for message in messages:
                await self.stream.send_message(message)

        await aio(work)

    async def receive(self) -> pb.ServerMessage:
        message: pb.ServerMessage | None = await aio(self.stream.recv_message)
        assert message is not None
        return message

    async def half_close(self) -> None:
        await aio(self.stream.end)

    async def end(self) -> None:
        """Waits until the server has ended the stream. Raises GRPCError when not with OK."""

        async def work() -> None:
            while await self.stream.recv_message() is not None:
                pass
            await self.stream.recv_trailing_metadata()

        with self._status_kept():
            await aio(work)

    @contextlib.contextmanager
    def _status_kept(self) -> Iterator[None]:
        """The server resets a stream behind the status of an error; grpclib's client forgets the status then."""
        try:
            yield
        except StreamTerminatedError:
            received = dict(self.stream._stream.headers or ()) | dict(self.stream._stream.trailers or ())
            if "grpc-status" not in received:
                raise
            raise GRPCError(Status(int(received["grpc-status"])), received.get("grpc-message")) from None


async def aio(function: Callable[..., Awaitable[Any]], *args: object) -> Any:
    """Runs asyncio code from trio, within ten seconds."""
    with trio.fail_after(10):
        return await trio_asyncio.aio_as_trio(function)(*args)


@contextlib.asynccontextmanager
async def agent(fleet: Fleet) -> AsyncIterator[Agent]:
    async def open_channel() -> grpclib.client.Channel:
        return grpclib.client.Channel("127.0.0.1", fleet.port)

    channel = await trio_asyncio.aio_as_trio(open_channel)()
    try:
        yield Agent(channel)
    finally:
        channel.close()


def log_line(seeded: Seeded, seq: int, text: str = "line", *, job: int = 0) -> pb.AgentMessage:
    """One line of one of the run's jobs."""
    line = pb.LogLine(run_id=str(seeded.run_id), job_id=str(seeded.job_ids[job]), seq=seq, stream="stdout", text=text)
    line.at.FromDatetime(datetime.now(UTC))
    return pb.AgentMessage(log=line)


def log_batch(
    seeded: Seeded, first: int, texts: Sequence[str], *, job: int = 0, attempt: int = 0, at: datetime | None = None
) -> pb.AgentMessage:
    """Some lines of one of the run's jobs, all at once."""
    batch = pb.LogBatch(run_id=str(seeded.run_id), job_id=str(seeded.job_ids[job]), attempt=attempt, first_seq=first)
    batch.texts.extend(texts)
    micros = int((at or datetime.now(UTC)).timestamp() * 1_000_000)
    batch.runs.add(lines=len(texts), at_micros=micros, stream="stdout")
    return pb.AgentMessage(log_batch=batch)


def mark(number: int) -> pb.AgentMessage:
    """That was number n."""
    return pb.AgentMessage(mark=pb.Mark(number=number))


def job_result(
    seeded: Seeded, *, job: int = 0, status: int = pb.RUN_STATUS_SUCCESS, **fields: object
) -> pb.AgentMessage:
    """The result of one of the run's jobs."""
    result = pb.JobResult(
        run_id=str(seeded.run_id),
        job_id=str(seeded.job_ids[job]),
        status=status,  # type: ignore[arg-type]
        **fields,  # type: ignore[arg-type]
    )
    return pb.AgentMessage(result=result)


@pytest.fixture
async def fleet(db: Database, tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(db, blobs_in(tmp_path, db))
    async with trio.open_nursery() as nursery:
        fleet.port = await nursery.start(fleet.server.run, "127.0.0.1", 0)
        yield fleet
        nursery.cancel_scope.cancel()
