"""A real grpclib server on loopback whose every answer the test decides, and the real agent in the same process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import trio
import trio_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from gocdnext.agent.client import Client
from gocdnext.agent.config import AgentSettings
from gocdnext.agent.engines import open_engine
from gocdnext.proto.agent_grpc import AgentServiceBase
from gocdnext.proto.agent_pb2 import (
    AgentMessage,
    Attempt,
    CancelJob,
    JobAssignment,
    JobResult,
    LogBatch,
    LogLine,
    Pong,
    RegisterRequest,
    RegisterResponse,
    ServerMessage,
    Stored,
    TaskSpec,
)

PATIENCE = 20.0
"""Seconds after which a test that waits for something has failed."""
TOKEN = "a-token-of-the-agent"


class Stream:
    """One Connect stream, as the test sees it."""

    def __init__(self, session: str, *, keep_logs: bool) -> None:
        self.session = session
        self.messages: list[AgentMessage] = []
        self.lines = 0
        self.bytes = 0
        self.half_closed = False
        self.reading = asyncio.Event()
        self.reading.set()
        self.transport: Any = None
        self.marks: list[int] = []
        self.batches = 0
        self.acked = 0
        self._keep_logs = keep_logs
        self._waiters: set[trio.Event] = set()
        self._out: asyncio.Queue[ServerMessage | bytes | GRPCError | None] = asyncio.Queue()

    # -- the test's side

    def send(self, message: ServerMessage | bytes) -> None:
        """A message, or raw bytes in its place."""
        self._out.put_nowait(message)

    def assign(self, assignment: JobAssignment) -> None:
        self.send(ServerMessage(assign=assignment))

    def cancel(self, job_id: str, reason: str = "user canceled") -> None:
        self.send(ServerMessage(cancel=CancelJob(run_id="run-1", job_id=job_id, reason=reason)))

    def confirm(self, number: int | None = None) -> None:
        """Says that everything up to a mark is stored; without a number everything that has come."""
        self.acked = max(self.marks, default=0) if number is None else number
        self.send(ServerMessage(stored=Stored(number=self.acked)))

    def cut(self) -> None:
        """The connection breaks."""
        self.transport.abort()

    def end(self, error: GRPCError | None = None) -> None:
        """Ends the stream: with OK, or with the error's status."""
        self._out.put_nowait(error)

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Waits until the condition holds; it is looked at after every message and at the end of the stream."""
        with trio.fail_after(PATIENCE):
            while not (value := condition()):
                changed = trio.Event()
                self._waiters.add(changed)
                await changed.wait()
        return value

    async def result(self, job_id: str = "job-1") -> JobResult:
        found = await self.until(lambda: [r for r in self.results() if r.job_id == job_id])
        first: JobResult = found[0]
        return first

    async def until_line(self, text: str) -> None:
        await self.until(lambda: text in self.texts())

    def results(self) -> list[JobResult]:
        return [message.result for message in self.messages if message.HasField("result")]

    def logs(self, job_id: str = "job-1") -> list[LogLine]:
        return [message.log for message in self.messages if message.HasField("log") and message.log.job_id == job_id]

    def texts(self, job_id: str = "job-1", stream: str | None = None) -> list[str]:
        return [line.text for line in self.logs(job_id) if stream in {None, line.stream}]

    def printed(self, job_id: str = "job-1") -> list[str]:
        """The lines without echoes and markers."""
        return [text for text in self.texts(job_id) if not text.startswith(("$ ", "── "))]

    # -- the handler's side (asyncio)

    def take(self, message: AgentMessage) -> None:
        if message.HasField("log_batch"):
            self.batches += 1
            for line in lines_of(message.log_batch):
                self.take(AgentMessage(log=line))
            return
        if message.HasField("mark"):
            self.marks.append(message.mark.number)
        if message.HasField("log"):
            self.lines += 1
            self.bytes += len(message.log.text)
        if self._keep_logs or not message.HasField("log"):
            self.messages.append(message)
        self.wake()

    def wake(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.set()

    async def pump(self, stream: Any) -> None:
        while not isinstance(item := await self._out.get(), GRPCError | None):
            if isinstance(item, bytes):
                await stream._stream.send_data(item)
            else:
                await stream.send_message(item)
        if item is not None:
            raise item


def lines_of(batch: LogBatch) -> Iterator[LogLine]:
    """The lines of a batch, as they would have come one by one."""
    texts = iter(batch.texts)
    seq = batch.first_seq
    for run in batch.runs:
        for text in itertools.islice(texts, run.lines):
            line = LogLine(run_id=batch.run_id, job_id=batch.job_id, seq=seq, stream=run.stream, text=text)
            line.at.FromMicroseconds(run.at_micros)
            yield line
            seq += 1


class ScriptedServer(AgentServiceBase):
    """`register_error` refuses; `pong` answers heartbeats; `confirm` ends the stream after a half-close.

    With `takes_batches` lines may come in batches. With `lease_seconds` it gives leases: an agent that shows the secret
    keeps what `keeps` says (default: everything), and `acks` says of what has come, at once, that it is stored. Register waits
    for `answer_registrations`.
    """

    def __init__(self, *, keep_logs: bool = True) -> None:
        self.registrations: list[RegisterRequest] = []
        self.streams: list[Stream] = []
        self.register_error: GRPCError | None = None
        self.heartbeat_seconds = 30
        self.pong = True
        self.confirm = True
        self.keep_logs = keep_logs
        self.lease_seconds = 0
        self.takes_batches = False
        self.keeps: Callable[[Attempt], bool] | None = lambda attempt: True
        self.acks = True
        self.answer_registrations = trio.Event()
        self.answer_registrations.set()
        self.port = 0
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self._connected = trio.Event()
        self._server: Server | None = None

    async def stream(self, number: int = 0) -> Stream:
        """The n-th Connect stream, once it is there."""
        with trio.fail_after(PATIENCE):
            while len(self.streams) <= number:
                self._connected = trio.Event()
                await self._connected.wait()
        return self.streams[number]

    async def Register(self, stream: Any) -> None:
        request = await stream.recv_message()
        self.registrations.append(request)
        if self.register_error is not None:
            raise self.register_error
        session = f"session-{len(self.registrations)}"
        await trio_asyncio.trio_as_aio(self.answer_registrations.wait)()
        answer = RegisterResponse(session_id=session, heartbeat_seconds=self.heartbeat_seconds)
        answer.log_batches = self.takes_batches or self.lease_seconds > 0
        if self.lease_seconds:
            answer.lease.seconds = self.lease_seconds
            answer.lease.secret = request.lease.secret or f"secret-{len(self.registrations)}"
            if request.lease.secret and self.keeps is not None:
                answer.lease.resumed = True
                answer.lease.kept.extend(filter(self.keeps, request.lease.attempts))
        await stream.send_message(answer)

    async def Connect(self, stream: Any) -> None:
        mine = Stream(stream.metadata.get("x-gocdnext-session", ""), keep_logs=self.keep_logs)
        mine.transport = stream._stream._transport  # grpclib closes no connection when it stops; a dying process does
        self.streams.append(mine)
        self._connected.set()
        await stream.send_initial_metadata()
        reader = asyncio.ensure_future(self._read(stream, mine))
        writer = asyncio.ensure_future(mine.pump(stream))
        try:
            done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            reader.cancel()
            writer.cancel()
            mine.wake()

    async def _read(self, stream: Any, mine: Stream) -> None:
        while True:
            await mine.reading.wait()
            message = await stream.recv_message()
            if message is None:
                break
            mine.take(message)
            if message.HasField("heartbeat") and self.pong:
                mine.send(ServerMessage(pong=Pong()))
            if message.HasField("mark") and self.acks:
                mine.confirm()
        mine.half_closed = True
        mine.wake()
        if not self.confirm:
            await asyncio.Event().wait()

    async def RequestCacheGet(self, stream: Any) -> None:
        await self._answer("RequestCacheGet", stream)

    async def RequestCachePut(self, stream: Any) -> None:
        await self._answer("RequestCachePut", stream)

    async def MarkCacheReady(self, stream: Any) -> None:
        await self._answer("MarkCacheReady", stream)

    async def RequestArtifactUpload(self, stream: Any) -> None:
        await self._answer("RequestArtifactUpload", stream)

    async def _answer(self, method: str, stream: Any) -> None:
        """As `answers` says: a function from the request to the answer or to an error, which is raised."""
        request = await stream.recv_message()
        if method not in self.answers:
            raise GRPCError(Status.UNIMPLEMENTED)
        answer = self.answers[method](request)
        if isinstance(answer, GRPCError):
            raise answer
        await stream.send_message(answer)

    async def start(self, port: int = 0) -> None:
        """Listens; a port from an earlier start may be given, to come back at the same address."""
        listener = socket.create_server(("127.0.0.1", port))
        self.port = listener.getsockname()[1]

        async def serve() -> Server:
            server = Server([self])
            await server.start(sock=listener)
            return server

        self._server = await trio_asyncio.aio_as_trio(serve)()

    async def vanish(self) -> None:
        """Closes the listener and every connection."""
        server, self._server = self._server, None
        if server is not None:

            async def close() -> None:
                server.close()
                for stream in self.streams:
                    stream.transport.abort()
                await server.wait_closed()

            await trio_asyncio.aio_as_trio(close)()


@contextlib.asynccontextmanager
async def scripted_server(*, keep_logs: bool = True) -> AsyncIterator[ScriptedServer]:
    async with trio_asyncio.open_loop():
        server = ScriptedServer(keep_logs=keep_logs)
        await server.start()
        try:
            yield server
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await server.vanish()


class Rig:
    """A server, an agent connected to it, and what became of the agent."""

    def __init__(self, server: ScriptedServer, client: Client, root: Path) -> None:
        self.server = server
        self.client = client
        self.root = root
        self.confirmed: bool | None = None
        self.ended = trio.Event()

    async def run(self, assignment: JobAssignment) -> JobResult:
        """Assigns on the first stream and waits for the result."""
        stream = await self.server.stream()
        stream.assign(assignment)
        return await stream.result(assignment.job_id)


def settings_for(server: ScriptedServer, root: Path, **changes: Any) -> AgentSettings:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": server.port,
        "name": "agent-1",
        "token": TOKEN,
        "workspace_root": str(root),
        **changes,
    }
    return AgentSettings(**values)


@contextlib.asynccontextmanager
async def rig(
    root: Path, *, keep_logs: bool = True, lease_seconds: int = 0, heartbeat_seconds: int = 30, **changes: Any
) -> AsyncIterator[Rig]:
    """The real agent against a scripted server; both end with the context."""
    async with scripted_server(keep_logs=keep_logs) as server, trio.open_nursery() as nursery:
        server.lease_seconds, server.heartbeat_seconds = lease_seconds, heartbeat_seconds
        settings = settings_for(server, root, **changes)
        engine = open_engine(settings)
        await engine.start()
        it = Rig(server, Client(settings, engine), root)

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            it.confirmed = await it.client.run(task_status=task_status)
            it.ended.set()

        with trio.fail_after(PATIENCE):
            await nursery.start(serve)
        yield it
        nursery.cancel_scope.cancel()


def script_job(script: str, job_id: str = "job-1", **fields: Any) -> JobAssignment:
    """A job of one script task, as a server sends it."""
    return JobAssignment(
        run_id="run-1", job_id=job_id, name="build", tasks=[TaskSpec(script=f"set -e\n{script}")], **fields
    )
