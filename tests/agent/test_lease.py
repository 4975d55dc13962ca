"""An agent with a lease: its jobs go on through a break, once and only once, and stop when the lease is over."""

# ruff: noqa: ASYNC110 -- looking at small local files is what these tests do

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.agent.joblog import OWN_LINE
from gocdnext.proto import agent_pb2
from gocdnext.proto.agent_pb2 import CancelJob, ServerMessage
from tests.agent.scripted_server import PATIENCE, Rig, Stream, rig, script_job

SUCCESS, FAILED = agent_pb2.RUN_STATUS_SUCCESS, agent_pb2.RUN_STATUS_FAILED
LEASE = 60
WAIT_FOR_GO = "echo ready; until test -e go; do sleep 0.01; done; echo gone"
"""A job that ends when its directory has a file `go`."""


async def go(it: Rig, job_id: str = "job-1") -> None:
    """Lets a job of WAIT_FOR_GO end."""
    (directory,) = (it.root / "run-1").glob(f"{job_id}-????????")
    (directory / "go").touch()


def once(*streams: Stream, job_id: str = "job-1") -> list[str]:
    """The printed lines of a job over all streams, each number once; a number must always have the same text and time."""
    found: dict[int, tuple[str, int]] = {}
    for stream in streams:
        for line in stream.logs(job_id):
            assert found.setdefault(line.seq, (line.text, line.at.ToMicroseconds()))[0] == line.text
            assert found[line.seq][1] == line.at.ToMicroseconds()
    assert sorted(found) == list(range(1, len(found) + 1))
    texts = [text for _, (text, _) in sorted(found.items())]
    return [text for text in texts if not text.startswith(("$ ", "── "))]


async def gone(it: Rig) -> None:
    """Waits until no job has a directory any more."""
    with trio.fail_after(PATIENCE):
        while any(it.root.glob("run-1/*")):
            await trio.sleep(0.01)


async def until_alone(it: Rig) -> None:
    """Waits until one job has a directory: one that was taken away is removed."""
    with trio.fail_after(PATIENCE):
        while len(list(it.root.glob("run-1/job-1-????????"))) > 1:
            await trio.sleep(0.01)


async def heard(it: Rig) -> None:
    """Waits until the agent knows that everything is stored."""
    with trio.fail_after(PATIENCE):
        while not it.client._outbox.empty:
            await trio.sleep(0.01)


async def test_a_server_of_the_field_gets_nothing_new(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        stream = await it.server.stream()
        await it.run(script_job("echo one; echo two"))
        assert stream.printed() == ["one", "two"]
        assert stream.marks == []
        assert it.server.registrations[0].log_batches


async def test_batches_without_a_lease(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.server.takes_batches = True
        (await it.server.stream()).cut()
        stream = await it.server.stream(1)
        stream.assign(script_job("seq 10000; echo; printf 'no newline'"))
        assert (await stream.result()).status == SUCCESS
        assert stream.printed() == [*map(str, range(1, 10001)), "", "no newline"]
        assert stream.batches < 100
        assert stream.marks == []
        stream.assign(script_job(WAIT_FOR_GO, "job-2"))
        await stream.until(lambda: "ready" in stream.texts("job-2"))
        stream.cut()
        await it.server.stream(2)
        assert list(it.root.glob("run-1/*")) == []


async def test_a_long_line_of_the_agents_own_fits_into_a_message(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        await it.run(script_job(": " + "\U0001f600" * 1024 * 600))
        (echo,) = [line for line in (await it.server.stream()).logs() if line.text.startswith("$ ")]
        assert len(echo.text) == OWN_LINE


@pytest.mark.parametrize("ending", ["connection", "status", "ok"])
async def test_a_job_goes_on_through_a_break(tmp_path: Path, ending: str) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO, attempt=2))
        await first.until_line("ready")
        if ending == "connection":
            first.cut()
        else:
            first.end(GRPCError(Status.UNAVAILABLE, "stopping") if ending == "status" else None)
        second = await it.server.stream(1)
        request = it.server.registrations[1]
        assert request.lease.secret == "secret-1"
        assert [(a.run_id, a.job_id, a.attempt) for a in request.lease.attempts] == [("run-1", "job-1", 2)]
        await go(it)
        result = await second.result()
        assert (result.status, result.attempt) == (SUCCESS, 2)
        assert once(first, second) == ["ready", "gone"]


async def test_what_is_stored_is_not_sent_again(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO))
        await first.until_line("ready")
        await heard(it)
        first.end(GRPCError(Status.UNAVAILABLE, "stopping"))
        second = await it.server.stream(1)
        await go(it)
        await second.result()
        assert second.printed() == ["gone"]


async def test_a_server_that_is_away_for_a_while(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO))
        await first.until_line("ready")
        await it.server.vanish()
        await go(it)
        await gone(it)
        # The job has ended while nobody was there.
        await it.server.start(it.server.port)
        second = await it.server.stream(1)
        assert [a.job_id for a in it.server.registrations[-1].lease.attempts] == ["job-1"]
        assert (await second.result()).status == SUCCESS
        assert once(first, second) == ["ready", "gone"]


async def test_a_result_that_was_not_confirmed_is_sent_again(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        it.server.acks = False
        first = await it.server.stream()
        result = await it.run(script_job("echo it", outputs={}))
        first.cut()
        second = await it.server.stream(1)
        assert await second.result() == result
        second.confirm()
        second.cut()
        third = await it.server.stream(2)
        await third.until(lambda: third.messages)
        # Confirmed or not depends on what the cut has let through; either way nothing is said of it twice.
        claimed = [a.job_id for a in it.server.registrations[2].lease.attempts]
        assert claimed in ([], ["job-1"])
        if claimed:
            assert await third.result() == result


async def test_confirmed_work_is_forgotten(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        first = await it.server.stream()
        await it.run(script_job("echo it"))
        await heard(it)
        first.end()
        await it.server.stream(1)
        assert it.server.registrations[1].lease.secret == "secret-1"
        assert list(it.server.registrations[1].lease.attempts) == []
        assert it.client._outbox.empty


async def test_a_refused_return_stops_the_jobs_and_tells_nothing_of_them(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        it.server.keeps = None
        it.server.acks = False
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO))
        await first.until_line("ready")
        first.cut()
        second = await it.server.stream(1)
        assert list(tmp_path.glob("run-1/*")) == []
        second.assign(script_job("echo again", attempt=1))
        assert (await second.result()).attempt == 1
        assert second.printed() == ["again"]
        assert len(second.results()) == 1


async def test_only_the_job_that_was_taken_back_is_stopped(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE, capacity=2) as it:
        it.server.keeps = lambda attempt: attempt.job_id != "job-2"
        first = await it.server.stream()
        for job in ("job-1", "job-2"):
            first.assign(script_job(WAIT_FOR_GO, job))
            await first.until(lambda j=job: "ready" in first.texts(j))
        first.cut()
        second = await it.server.stream(1)
        with trio.fail_after(PATIENCE):
            while any(it.root.glob("run-1/job-2-*")):
                await trio.sleep(0.01)
        await go(it)
        assert (await second.result()).status == SUCCESS
        assert second.logs("job-2") == []
        assert [result.job_id for result in second.results()] == ["job-1"]


async def test_a_newer_attempt_takes_the_place_of_an_older(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE, capacity=2) as it:
        stream = await it.server.stream()
        stream.assign(script_job(WAIT_FOR_GO))
        await stream.until_line("ready")
        old = len(stream.logs())
        stream.assign(script_job(f"{WAIT_FOR_GO}; echo newer", attempt=1))
        await stream.until(lambda: stream.printed().count("ready") == 2)
        # While the newer is the agent's; once its result is stored the agent knows nothing of it any more.
        stream.assign(script_job("echo older"))
        await until_alone(it)
        await go(it)
        result = await stream.result()
        assert (result.status, result.attempt) == (SUCCESS, 1)
        assert stream.printed()[-1] == "newer"
        # The new attempt counts from one, and nothing of the old one came in between.
        assert [line.seq for line in stream.logs()[old:]] == list(range(1, len(stream.logs()) - old + 1))
        await gone(it)
        await heard(it)
        assert len(stream.results()) == 1


async def test_a_cancel_for_an_older_attempt_is_none_for_this_one(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        stream = await it.server.stream()
        stream.assign(script_job(WAIT_FOR_GO, attempt=3))
        await stream.until_line("ready")
        stream.send(ServerMessage(cancel=CancelJob(run_id="run-1", job_id="job-1", attempt=2)))
        await go(it)
        assert (await stream.result()).status == SUCCESS
        stream.assign(script_job(WAIT_FOR_GO, attempt=4))
        stream.send(ServerMessage(cancel=CancelJob(run_id="run-1", job_id="job-1", attempt=4)))
        await stream.until(lambda: len(stream.results()) == 2)
        assert stream.results()[1].status == FAILED


async def test_a_cancel_that_came_while_the_agent_was_away(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO))
        await first.until_line("ready")
        first.cut()
        second = await it.server.stream(1)
        second.cancel("job-1")
        assert (await second.result()).error == "task 0: canceled (user canceled)"


@pytest.mark.slow
async def test_without_word_the_jobs_stop_when_the_lease_is_over(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=3, heartbeat_seconds=1) as it:
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO))
        await first.until_line("ready")
        await it.server.vanish()
        await gone(it)
        await it.server.start(it.server.port)
        second = await it.server.stream(1)
        assert it.server.registrations[-1].lease.secret == ""
        assert list(it.server.registrations[-1].lease.attempts) == []
        second.assign(script_job("echo again", attempt=1))
        await second.result()
        assert second.printed() == ["again"]


@pytest.mark.slow
async def test_a_stream_on_which_nothing_is_answered_is_left_and_the_job_goes_on(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE, heartbeat_seconds=1) as it:
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO))
        await first.until_line("ready")
        it.server.pong = it.server.acks = False
        second = await it.server.stream(1)
        await go(it)
        await second.result()
        assert once(first, second) == ["ready", "gone"]


@pytest.mark.slow
async def test_a_return_that_is_granted_too_late_is_not_used(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=2, heartbeat_seconds=1) as it:
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO))
        await first.until_line("ready")
        it.server.answer_registrations = trio.Event()
        first.cut()
        await gone(it)
        it.server.answer_registrations.set()
        second = await it.server.stream(1)
        assert second.session == "session-3"
        assert [bool(request.lease.secret) for request in it.server.registrations] == [False, True, False]


async def test_a_flood_waits_for_the_word_that_it_is_stored(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE, keep_logs=False) as it:
        it.server.acks = False
        outbox = it.client._outbox
        stream = await it.server.stream()
        stream.assign(script_job("yes " + "x" * 99 + " | head -n 100000"))
        await stream.until(lambda: stream.bytes > outbox._limits[True] * 9 // 10)
        await trio.testing.wait_all_tasks_blocked(0.1)
        held = outbox._size
        assert held < outbox._limits[True] + 2 * 1024 * 1024
        assert stream.lines < 60_000
        # An agent whose word never comes still answers for itself.
        beats = sum(message.HasField("heartbeat") for message in stream.messages)
        it.client._session._heartbeat()  # type: ignore[union-attr]
        await stream.until(lambda: sum(message.HasField("heartbeat") for message in stream.messages) > beats)
        it.server.acks = True
        stream.confirm()
        assert (await stream.result()).status == SUCCESS
        assert stream.lines == 100_000 + 2


async def test_a_drain_in_a_break_waits_for_the_job_and_tells_its_end(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO))
        await first.until_line("ready")
        await it.server.vanish()
        it.client.drain()
        await go(it)
        await gone(it)
        await it.server.start(it.server.port)
        second = await it.server.stream(1)
        assert (await second.result()).status == SUCCESS
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        assert it.confirmed is True
        assert second.half_closed
        assert [message for message in second.messages if message.HasField("draining")]
        assert once(first, second) == ["ready", "gone"]


async def test_a_drain_in_a_break_with_nothing_to_tell_ends_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        await it.server.stream()
        await it.server.vanish()
        it.client.drain()
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        assert it.confirmed is True


async def test_a_break_in_the_last_moment_of_a_drain(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE) as it:
        it.server.acks = it.server.confirm = False
        first = await it.server.stream()
        await it.run(script_job("echo it"))
        it.client.drain()
        await first.until(lambda: first.half_closed)
        it.server.confirm = True
        first.cut()
        second = await it.server.stream(1)
        assert (await second.result()).status == SUCCESS
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        assert it.confirmed is True


@pytest.mark.slow
async def test_a_drain_that_nobody_confirms_within_the_lease(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=2, heartbeat_seconds=1) as it:
        it.server.acks = False
        await it.run(script_job("echo it"))
        await it.server.vanish()
        it.client.drain()
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        assert it.confirmed is False


async def test_over_the_drain_budget_in_a_break_no_result_is_made_up(tmp_path: Path) -> None:
    async with rig(tmp_path, lease_seconds=LEASE, drain_budget=0.0) as it:
        first = await it.server.stream()
        first.assign(script_job(WAIT_FOR_GO))
        await first.until_line("ready")
        first.cut()
        second = await it.server.stream(1)
        it.client.drain()
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        assert second.half_closed
        assert first.results() + second.results() == []
