"""The life of a session: registration, duplicates, capacity, drain, loss and return."""

# ruff: noqa: ASYNC110 -- looking at small local files, and polling other processes, is what these tests do

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import trio
import trio.testing
from grpclib.const import Status
from grpclib.exceptions import GRPCError

import gocdnext
from gocdnext.agent.client import Client
from gocdnext.agent.config import ConfigError
from gocdnext.agent.engines import open_engine
from gocdnext.agent.wire import RefusedError
from gocdnext.agent.workspace import WorkspaceError, open_root
from gocdnext.proto import agent_pb2
from gocdnext.proto.agent_pb2 import ServerMessage
from tests.agent.scripted_server import PATIENCE, TOKEN, ScriptedServer, rig, script_job, scripted_server, settings_for

SUCCESS = agent_pb2.RUN_STATUS_SUCCESS
HANG_ON_FIFO = "mkfifo fifo; echo ready; cat fifo"


def client_for(server: ScriptedServer, root: Path) -> Client:
    settings = settings_for(server, root)
    return Client(settings, open_engine(settings))


async def test_register_and_first_heartbeat(tmp_path: Path) -> None:
    async with rig(tmp_path, tags=("linux", "fast"), capacity=3) as it:
        stream = await it.server.stream()
        await stream.until(lambda: stream.messages)
        request = it.server.registrations[0]
        assert (request.agent_id, request.token, list(request.tags)) == ("agent-1", TOKEN, ["linux", "fast"])
        assert (request.capacity, request.engine, request.version) == (3, "shell", gocdnext.__version__)
        assert (request.os, request.arch) == ("linux", request.arch)
        assert request.arch in {"amd64", "arm64"}
        assert stream.session == "session-1"
        assert stream.messages[0].HasField("heartbeat")
        assert stream.messages[0].heartbeat.at.seconds > 0


@pytest.mark.parametrize("status", [Status.NOT_FOUND, Status.UNAUTHENTICATED, Status.INVALID_ARGUMENT])
async def test_a_wrong_token_is_final_and_explained(tmp_path: Path, status: Status) -> None:
    async with scripted_server() as server:
        server.register_error = GRPCError(status, "no")
        with trio.fail_after(PATIENCE), pytest.raises(RefusedError, match="check GOCDNEXT_AGENT_NAME and ") as caught:
            await client_for(server, tmp_path).run()
        assert TOKEN not in str(caught.value)
        assert len(server.registrations) == 1


async def test_a_failing_server_is_tried_again(tmp_path: Path) -> None:
    async with scripted_server() as server, trio.open_nursery() as nursery:
        server.register_error = GRPCError(Status.UNAVAILABLE, "starting")
        client = client_for(server, tmp_path)
        nursery.start_soon(client.run)
        with trio.fail_after(PATIENCE):
            while len(server.registrations) < 2:
                await trio.sleep(0.01)  # polling a condition, bounded above
        server.register_error = None
        await server.stream()
        client.drain()


async def test_a_server_that_is_down_is_tried_until_it_is_up(tmp_path: Path) -> None:
    async with scripted_server() as server, trio.open_nursery() as nursery:
        await server.vanish()
        client = client_for(server, tmp_path)
        nursery.start_soon(client.run)
        await server.start(server.port)
        await server.stream()
        client.drain()


async def test_drain_before_a_session_ends_at_once(tmp_path: Path) -> None:
    async with scripted_server() as server:
        await server.vanish()
        client = client_for(server, tmp_path)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                await trio.testing.wait_all_tasks_blocked()
                client.drain()


async def test_a_duplicate_assignment_is_ignored(tmp_path: Path) -> None:
    async with rig(tmp_path, capacity=2) as it:
        stream = await it.server.stream()
        job = script_job(HANG_ON_FIFO)
        stream.assign(job)
        await stream.until_line("ready")
        stream.assign(job)
        stream.assign(script_job("echo second", "job-2"))
        await stream.result("job-2")
        stream.cancel("job-1")
        await stream.result("job-1")
        assert stream.printed() == ["ready"]
        assert len(stream.results()) == 2


async def test_no_more_than_the_capacity_runs_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path, capacity=2) as it:
        stream = await it.server.stream()
        for number in (1, 2, 3):
            stream.assign(script_job(HANG_ON_FIFO, f"job-{number}"))
        await stream.until(lambda: [job for job in ("job-1", "job-2", "job-3") if "ready" in stream.texts(job)][1:])
        waiting = next(job for job in ("job-1", "job-2", "job-3") if "ready" not in stream.texts(job))
        await trio.testing.wait_all_tasks_blocked()
        assert stream.texts(waiting) == []
        stream.assign(script_job(HANG_ON_FIFO, "job-4"))
        stream.cancel("job-4")
        assert (await stream.result("job-4")).error == "waiting: canceled (user canceled)"
        running = next(job for job in ("job-1", "job-2", "job-3") if job != waiting)
        stream.cancel(running)
        await stream.until(lambda: "ready" in stream.texts(waiting))


async def test_assignments_without_ids_and_unknown_messages_are_ignored(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        stream = await it.server.stream()
        stream.send(ServerMessage(assign=agent_pb2.JobAssignment(name="nameless")))
        stream.send(ServerMessage())
        stream.send(ServerMessage(cleanup_run_services=agent_pb2.CleanupRunServices(run_id="r")))
        assert (await it.run(script_job(":"))).status == SUCCESS
        assert len(stream.results()) == 1


async def test_drain_lets_a_running_job_finish(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        stream = await it.server.stream()
        stream.assign(script_job(HANG_ON_FIFO + "; echo done"))
        await stream.until_line("ready")
        it.client.drain()
        await stream.until(lambda: [message for message in stream.messages if message.HasField("draining")])
        stream.assign(script_job("echo late", "job-2"))
        (fifo_path,) = (tmp_path / "run-1").glob("job-1-????????/fifo")
        async with await trio.open_file(fifo_path, "w") as fifo:
            await fifo.write("go on\n")
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        assert it.confirmed is True
        assert stream.half_closed
        assert [result.job_id for result in stream.results()] == ["job-1"]
        assert stream.results()[0].status == SUCCESS
        assert stream.printed() == ["ready", "go on", "done"]
        assert stream.messages[-1].HasField("result")


async def test_over_the_drain_budget_jobs_are_killed_and_leave_no_result(tmp_path: Path) -> None:
    async with rig(tmp_path, drain_budget=0.0) as it:
        stream = await it.server.stream()
        stream.assign(script_job("trap '' TERM; " + HANG_ON_FIFO))
        await stream.until_line("ready")
        it.client.drain()
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        assert it.confirmed is True
        assert stream.half_closed
        assert stream.results() == []
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
async def test_a_server_that_does_not_confirm_does_not_hold_the_agent(tmp_path: Path) -> None:
    async with rig(tmp_path, drain_flush_timeout=0.2) as it:
        it.server.confirm = False
        stream = await it.server.stream()
        it.client.drain()
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        assert stream.half_closed


async def test_a_stream_that_breaks_while_draining_is_reported(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.server.confirm = False
        stream = await it.server.stream()
        it.client.drain()
        await stream.until(lambda: stream.half_closed)
        stream.end(GRPCError(Status.INTERNAL, "database is away"))
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        assert it.confirmed is False


@pytest.mark.parametrize("ending", ["status", "ok", "connection"])
async def test_loss_kills_the_jobs_and_the_agent_comes_back(tmp_path: Path, ending: str) -> None:
    async with rig(tmp_path) as it:
        stream = await it.server.stream()
        stream.assign(script_job(HANG_ON_FIFO))
        await stream.until_line("ready")
        if ending == "connection":
            await it.server.vanish()
            await it.server.start(it.server.port)
        else:
            stream.end(GRPCError(Status.UNAUTHENTICATED, "superseded") if ending == "status" else None)
        second = await it.server.stream(1)
        assert second.session == "session-2"
        assert list(tmp_path.iterdir()) == []
        second.assign(script_job("echo again"))
        assert (await second.result()).status == SUCCESS
        assert second.printed() == ["again"]
        assert [line.seq for line in second.logs()] == [1, 2, 3]
        assert stream.results() == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0\0\x05\xff\xff\xff\xff\xff",  # not a message
        b"\x01\0\0\0\x01x",  # compressed
        b"\0\0\0\0\x05\x0a\x03\x0a\x01\xff",  # an id that is not UTF-8
    ],
)
async def test_garbage_from_the_server_ends_the_session_not_the_agent(tmp_path: Path, garbage: bytes) -> None:
    async with rig(tmp_path) as it:
        stream = await it.server.stream()
        stream.send(garbage)
        second = await it.server.stream(1)
        second.assign(script_job(":"))
        assert (await second.result()).status == SUCCESS


async def test_a_rejected_connect_is_tried_again_with_a_new_session(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        for number in itertools.count():
            stream = await it.server.stream(number)
            if number == 2:
                break
            stream.end(GRPCError(Status.ALREADY_EXISTS, "second Connect"))
        assert stream.session == "session-3"


@pytest.mark.slow
async def test_a_silent_server_counts_as_lost(tmp_path: Path) -> None:
    async with scripted_server() as server, trio.open_nursery() as nursery:
        server.heartbeat_seconds = 1
        server.pong = False
        client = client_for(server, tmp_path)
        nursery.start_soon(client.run)
        await server.stream(1)
        first = server.streams[0]
        assert sum(message.HasField("heartbeat") for message in first.messages) >= 3
        client.drain()


def test_the_work_root_must_be_our_own(tmp_path: Path) -> None:
    root = tmp_path / "root"
    open_root(str(root))
    assert root.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="set GOCDNEXT_WORKSPACE_ROOT"):
        open_root(str(tmp_path / "file" / "root"))


def test_an_engine_that_is_not_there_is_named(tmp_path: Path) -> None:
    server = ScriptedServer()
    with pytest.raises(ConfigError, match="GOCDNEXT_AGENT_ENGINE is 'chroot'"):
        open_engine(settings_for(server, tmp_path, engine="chroot"))
