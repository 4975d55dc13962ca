"""How fast log lines go from an agent's stream to the table and to a reader of the event stream.

The agent is a process of its own that sends one message a line and one HTTP/2 DATA frame a message, as a Go agent
does. The server, its reader and PostgreSQL are real; only the run service is left out, because no run changes here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import struct
import subprocess
import sys
import time
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import grpclib.client
import trio
import trio.testing
import trio_asyncio

from gocdnext.db.pool import open_pool
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.server import AgentServer
from gocdnext.logs import partitions
from gocdnext.logs.hub import LogHub
from gocdnext.logs.ingest import LogIngest
from gocdnext.logs.stream import stream
from gocdnext.pipeline.model import Job
from gocdnext.proto import agent_pb2 as pb
from gocdnext.proto.agent_grpc import AgentServiceStub
from gocdnext.runs.assignment import Assignment
from gocdnext.runs.service import HeldJob, JobReport
from tests.bench.stack import scratch
from tests.blob_room import blobs_in
from tests.postgres_fixture import running_server
from tests.service.logs.seed import Seeded, running_run

_SENT = re.compile(rb'"text":"([0-9.]+)"')
Figure = tuple[str, float, str, str]
LINES = 200_000
SINGLE_LINES = 300
TOKEN = "bench"


class NoRuns:
    """A run service to which nothing happens."""

    async def complete(self, report: JobReport) -> bool:
        return True

    async def reclaim(self, agent_id: UUID) -> None:
        pass

    async def resume(self, agent_id: UUID, has: Collection[tuple[UUID, int]]) -> list[HeldJob]:
        return []

    async def running(self, agent_ids: Collection[UUID]) -> list[tuple[UUID, UUID, UUID, int]]:
        return []

    async def forgotten(self, agent_id: UUID, run_id: UUID, job_id: UUID, attempt: int) -> None:
        pass

    async def pending_cancels(self, agent_id: UUID) -> list[tuple[UUID, UUID]]:
        return []


class NoMetrics:
    """Nothing is counted, but a dropped line ends the measurement."""

    def log_lines_dropped(self, reason: str, count: int) -> None:
        raise AssertionError(f"{count} lines dropped: {reason}")

    def rpc_started(self, method: str) -> None:
        pass

    def log_session_discarded(self) -> None:
        raise AssertionError("a session ended with lines that were not stored")

    def rpc_handled(self, method: str, code: str, seconds: float | None) -> None:
        pass

    def agent_drained(self, outcome: str, seconds: float) -> None:
        pass

    def report_dropped(self, kind: str, reason: str) -> None:
        pass

    def result_invalid(self, kind: str) -> None:
        pass


def figures(lines: int = LINES) -> list[Figure]:
    """The figures of this file: (name, value, unit, goal)."""
    with running_server() as postgres, scratch() as folder:
        return trio.run(_measure, postgres.migrated_database(), lines, folder)


async def _measure(dsn: str, lines: int, folder: Path) -> list[Figure]:
    async with trio_asyncio.open_loop(), open_pool({"dsn": dsn}, size=8) as db, trio.open_nursery() as nursery:
        await partitions.ensure(db, datetime.now(UTC))
        hub, shutdown, ready = LogHub(), trio.Event(), trio.Event()
        registry = Registry(ready.set, lambda: None)
        server = AgentServer(
            db,
            NoRuns(),
            registry,
            LogIngest(db, hub, NoMetrics()),
            NoMetrics(),
            blobs=blobs_in(folder, db),
            registration_token=TOKEN,
            clock=lambda: datetime.now(UTC),
            new_id=uuid4,
        )
        await nursery.start(hub.run, db, shutdown)
        port = await nursery.start(server.run, "127.0.0.1", 0)
        rates = []
        delays: list[float] = []
        for mode, count in (("flood", lines), ("single", SINGLE_LINES)):
            ready = trio.Event()
            registry._on_ready = ready.set
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "tests.bench.logs", mode, str(port), str(count)],
                cwd=Path(__file__).parent.parent.parent,
                stdout=subprocess.PIPE,
            )
            async with process.stdout:  # type: ignore[union-attr]
                await ready.wait()
                (session,) = registry.sessions()
                seeded = await running_run(db, agent_id=session.agent_id)
                pieces = stream(hub, db, seeded.run_id, 0, shutdown)
                async with contextlib.aclosing(pieces):  # type: ignore[type-var]
                    await anext(pieces)
                    assert registry.assign(session.id, _assignment(seeded))
                    if mode == "flood":
                        began, seen = 0.0, 0
                        async for piece in pieces:
                            began = began or time.monotonic()
                            seen += piece.count(b"event: log\n")
                            if seen == count:
                                break
                        rates.append((seen - 1) / (time.monotonic() - began))
                    else:
                        while len(delays) < count:
                            sent = _SENT.findall(await anext(pieces))
                            now = time.monotonic()
                            delays += [(now - float(moment)) * 1000 for moment in sent]
                await process.wait()
            stored = await db.fetchval("SELECT count(*) FROM log_lines WHERE run_id = $1", seeded.run_id)
            assert stored == count, f"{stored} of {count} lines stored"
            with trio.fail_after(10):
                while registry.sessions():
                    await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    delays.sort()
    return [
        ("log lines, one stream, one message a line: stored and seen", round(rates[0]), "lines/s", "40000"),
        ("one line to its event, idle, p50", round(delays[len(delays) // 2], 2), "ms", "6"),
        ("one line to its event, idle, p99", round(delays[math.ceil(len(delays) * 0.99) - 1], 2), "ms", "25"),
    ]


def _assignment(seeded: Seeded) -> Assignment:
    job = Job(name="job", stage="build", kind="script", script="set -e")
    return Assignment(run_id=seeded.run_id, job_id=seeded.job_ids[0], attempt=0, definition=job, env={})


async def _agent(mode: str, port: int, count: int) -> None:
    channel = grpclib.client.Channel("127.0.0.1", port)
    stub = AgentServiceStub(channel)
    session = await stub.Register(pb.RegisterRequest(agent_id="bench", token=TOKEN, capacity=1))
    async with stub.Connect.open(metadata=[("x-gocdnext-session", session.session_id)]) as connection:
        await connection.send_request()
        message = await connection.recv_message()
        assert message is not None
        if mode == "flood":
            await _flood(connection, [_frame(message.assign, seq, f"{seq:0100d}") for seq in range(1, count + 1)])
        else:
            for seq in range(1, count + 1):
                await connection._stream.send_data(_frame(message.assign, seq, f"{time.monotonic():.6f}"))
                await asyncio.sleep(0.01)
        await connection.end()
        await connection.recv_message()
    channel.close()


def _frame(job: pb.JobAssignment, seq: int, text: str) -> bytes:
    line = pb.LogLine(run_id=job.run_id, job_id=job.job_id, seq=seq, stream="stdout", text=text)
    line.at.FromNanoseconds(time.time_ns())
    data = pb.AgentMessage(log=line).SerializeToString()
    return b"\x00" + struct.pack(">I", len(data)) + data


async def _flood(connection: grpclib.client.Stream[pb.AgentMessage, pb.ServerMessage], frames: list[bytes]) -> None:
    """One DATA frame a message, as fast as flow control lets; grpclib's own send is slower than the server."""
    inner = connection._stream
    h2, transport, id_ = inner._h2_connection, inner._transport, inner.id
    assert id_ is not None
    for number, frame in enumerate(frames):
        while h2.local_flow_control_window(id_) < len(frame):
            transport.write(h2.data_to_send())
            inner.window_updated.clear()
            await inner.window_updated.wait()
        h2.send_data(id_, frame)
        if number % 100 == 99:
            transport.write(h2.data_to_send())
            await inner.connection.write_ready.wait()
            await asyncio.sleep(0)
    transport.write(h2.data_to_send())


if __name__ == "__main__":
    if len(sys.argv) == 4:
        asyncio.run(_agent(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    else:
        for figure in figures():
            print(*figure)
