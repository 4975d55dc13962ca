"""The run service where scenarios do not reach: sending that fails, silence, numbers under load, notifications."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
import trio
import trio_asyncio

from gocdnext.db.pool import open_pool
from gocdnext.errors import ConflictError, NotFoundError
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.scheduler import Scheduler
from gocdnext.runs.service import JobReport, RunService
from gocdnext.runs.state import CANCELED, QUEUED, RUNNING, SUCCESS
from tests.scenarios.world import World


async def trigger(world: World) -> CreatedRun:
    pipeline_id = await world.db.fetchval("SELECT id FROM pipelines WHERE name = 'p'")
    return await world.runs.create(NewRun(pipeline_id, "manual", "me"))


async def test_a_failed_send_puts_the_job_back_and_does_not_use_up_the_attempt(world: World) -> None:
    world.fleet.refuse = True
    await trigger(world)
    _, job = await world.job("p#1/x")
    assert (job.status, job.attempt, job.agent_id) == (QUEUED, 0, None)
    world.fleet.refuse = False
    await world.settle()
    assert (await world.job("p#1/x"))[1].status == RUNNING


async def test_a_send_that_fails_after_a_cancel_makes_the_job_cancelled(world: World) -> None:
    await trigger(world)
    await world.settle()
    run, job = await world.job("p#1/x")
    assert job.agent_id is not None
    await world.runs.cancel_job(job.id)
    assert await world.runs.complete(JobReport(run.id, job.id, job.agent_id, 0, "disrupted"))
    assert (await world.job("p#1/x"))[1].status == CANCELED


async def test_an_agent_that_is_silent_for_90_seconds_loses_its_job(world: World) -> None:
    await trigger(world)
    await world.settle()
    await world.db.execute("UPDATE agents SET last_seen_at = $1", world.now)
    world.now += timedelta(seconds=89)
    assert await world.runs.reap() == 0
    world.now += timedelta(seconds=2)
    assert await world.runs.reap() == 1
    assert (await world.job("p#1/x"))[1].attempt == 1


async def test_a_job_of_an_agent_that_was_deleted_is_taken_back(world: World) -> None:
    await trigger(world)
    await world.settle()
    await world.db.execute("DELETE FROM agents")
    assert await world.runs.reap() == 1


async def test_run_numbers_are_dense_under_concurrent_triggers(world: World) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(trigger, world)
    counters = [row["counter"] for row in await world.db.fetch("SELECT counter FROM runs ORDER BY counter")]
    assert counters == list(range(1, 41))


async def test_run_numbers_are_dense_when_two_servers_take_turns(world: World) -> None:
    other = RunService(world.db, world.fleet, world, secrets=world.secrets, clock=lambda: world.now, new_id=uuid4)
    pipeline_id = (await world.pipeline("p"))[0]
    created = [await runs.create(NewRun(pipeline_id, "manual", "me")) for runs in (world.runs, other) * 3]
    assert [run.counter for run in created] == [1, 2, 3, 4, 5, 6]


async def test_a_new_run_is_of_what_its_pipeline_is_now_whatever_the_server_remembers(world: World) -> None:
    await trigger(world)
    await world.do_apply({"pipelines": {"p": {"stages": ["s"], "jobs": {"y": {"stage": "s", "script": ["y"]}}}}})
    await trigger(world)
    assert [job.name for job in (await world.run("p#2")).jobs] == ["y"]

    entry = {"on": "failure", "uses": "plugins/slack", "with": {"channel": "x"}}
    await world.keep_notifications([entry])
    await trigger(world)
    assert len((await world.run("p#3")).notifications) == 1


async def test_a_run_of_a_deleted_pipeline_is_refused_also_where_it_is_remembered(world: World) -> None:
    created = await trigger(world)
    await world.db.execute("DELETE FROM projects")
    with pytest.raises(NotFoundError, match="pipeline not found"):
        await world.runs.create(NewRun(created.pipeline_id, "manual", "me"))


async def test_two_dispatchers_at_once_assign_each_job_once(world: World) -> None:
    agents, world.fleet.agents = world.fleet.agents, {}
    created = await trigger(world)
    world.fleet.agents = agents
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(world.runs.dispatch, created.run_id)
    assert len(world.fleet.sent) == 1


async def test_two_results_at_once_change_the_job_once(world: World) -> None:
    await trigger(world)
    await world.settle()
    run, job = await world.job("p#1/x")
    assert job.agent_id is not None
    changed = []

    async def report(status: str) -> None:
        assert job.agent_id is not None
        changed.append(await world.runs.complete(JobReport(run.id, job.id, job.agent_id, 0, status)))

    async with trio.open_nursery() as nursery:
        for status in ("success", "failed", "success", "disrupted"):
            nursery.start_soon(report, status)
    assert sorted(changed) == [False, False, False, True]


async def test_a_result_is_stored_at_once_where_one_statement_does_it(database_url: str) -> None:
    jobs = {name: {"stage": "s", "script": ["true"]} for name in ("x", "y")}
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=4) as db:
        world = World(db)
        await world.set_up({"pipelines": {"p": {"stages": ["s"], "jobs": jobs}}})
        await trigger(world)
        await world.settle()
        at_once = trio_asyncio.aio_as_trio(world.runs.complete_at_once)

        async def report(job_key: str) -> JobReport:
            run, job = await world.job(job_key)
            assert job.agent_id is not None
            return JobReport(run.id, job.id, job.agent_id, 0, "success")

        first = await report("p#1/x")
        assert not await at_once(replace(first, run_id=uuid4())), "a run that this process does not remember"
        assert await at_once(first)
        assert (await world.job("p#1/x"))[1].status == SUCCESS
        assert not await at_once(first), "a repeated one changes nothing, which is for `complete` to say"
        last = await report("p#1/y")
        assert not await at_once(last), "the end of a run concerns others"
        assert await world.runs.complete(last)


async def test_what_cannot_be_stored_is_cleaned_not_refused(world: World) -> None:
    await trigger(world)
    await world.settle()
    run, job = await world.job("p#1/x")
    assert job.agent_id is not None
    report = JobReport(run.id, job.id, job.agent_id, 0, "failed", 2, "bad\x00 " + "x" * 100_000)
    assert await world.runs.complete(report)
    error = (await world.job("p#1/x"))[1].error
    assert error is not None
    assert error.startswith("bad x")
    assert len(error) == 16 * 1024


async def test_a_new_run_is_on_the_wire_before_its_creation_is_answered(world: World) -> None:
    created = await trigger(world)
    assert [sent.run_id for sent in world.fleet.sent] == [created.run_id]


async def test_log_lines_of_a_discarded_attempt_go_with_it(world: World) -> None:
    await trigger(world)
    await world.settle()
    run, job = await world.job("p#1/x")
    for seq in (1, 2):
        await world.db.execute(
            "INSERT INTO log_lines (job_run_id, run_id, cursor, seq, at, stream, text) VALUES ($1, $2, $3, $3, $4, 'o', 't')",
            job.id,
            run.id,
            seq,
            world.now,
        )
    await world.db.execute("UPDATE agents SET status = 'offline'")
    await world.runs.reap()
    assert await world.db.fetchval("SELECT count(*) FROM log_lines") == 0


async def test_unknown_ids_and_wrong_states_are_said(world: World) -> None:
    with pytest.raises(NotFoundError, match="run not found"):
        await world.runs.cancel_run(uuid4())
    with pytest.raises(NotFoundError, match="job_run not found"):
        await world.runs.cancel_job(uuid4())
    with pytest.raises(NotFoundError, match="pipeline not found"):
        await world.runs.create(NewRun(uuid4(), "manual", "me"))
    assert not await world.runs.complete(JobReport(uuid4(), uuid4(), uuid4(), 0, "success"))
    assert not await world.runs.dispatch(uuid4())
    world.fleet.agents = {}
    created = await trigger(world)
    assert await world.runs.cancel_run(created.run_id) == 0
    with pytest.raises(ConflictError, match="run already terminal"):
        await world.runs.cancel_run(created.run_id)
    _, job = await world.job("p#1/x")
    with pytest.raises(ConflictError, match="job_run already terminal"):
        await world.runs.cancel_job(job.id)


async def test_the_scheduler_dispatches_what_it_is_told_of_and_tells_others_what_it_cannot_place(
    world: World, database_url: str
) -> None:
    scheduler = Scheduler()
    world.waits = scheduler.waits  # type: ignore[method-assign]
    agents, world.fleet.agents = world.fleet.agents, {}
    async with _heard(database_url) as heard, trio.open_nursery() as nursery:
        await nursery.start(scheduler.run, world.db, world.runs, world.fleet)
        created = await trigger(world)
        with trio.fail_after(10):
            assert await heard.receive() == str(created.run_id), "said by the creation"
            assert await heard.receive() == str(created.run_id), "said again, because nobody is here"
        world.fleet.agents = agents
        scheduler.slot_free()
        with trio.fail_after(10):
            while not world.fleet.sent:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert (await world.job("p#1/x"))[1].status == RUNNING


@contextlib.asynccontextmanager
async def _heard(url: str, channel: str = "run_queued") -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
    """What a second server hears."""
    send, receive = trio.open_memory_channel[str](100)
    conn = await trio_asyncio.aio_as_trio(asyncpg.connect)(url)
    await trio_asyncio.aio_as_trio(conn.add_listener)(channel, lambda *said: send.send_nowait(said[-1]))
    yield receive
    await trio_asyncio.aio_as_trio(conn.close)()


async def test_the_end_of_a_serial_run_starts_the_next_through_the_scheduler(world: World) -> None:
    await world.do_apply({"pipelines": {"p": {"concurrency": "serial", **_job()}}})
    scheduler = Scheduler()
    world.wake = scheduler.wake  # type: ignore[method-assign]
    world.wake_pipeline = scheduler.wake_pipeline  # type: ignore[method-assign]
    world.waits = scheduler.waits  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        await nursery.start(scheduler.run, world.db, world.runs, world.fleet)
        for _ in range(3):
            await trigger(world)
        with trio.fail_after(20):
            for number in range(3):
                while len(world.fleet.sent) <= number:
                    await trio.lowlevel.checkpoint()
                sent = world.fleet.sent[number]
                holder = world.fleet.holder(sent.job_id)
                assert holder is not None
                assert await world.runs.complete(JobReport(sent.run_id, sent.job_id, holder.id, 0, "success"))
        nursery.cancel_scope.cancel()
    assert [(await world.run(f"p#{n}")).status for n in (1, 2, 3)] == [SUCCESS] * 3


def _job() -> dict[str, object]:
    return {"stages": ["s"], "jobs": {"x": {"stage": "s", "script": ["x"]}}}


async def test_a_cancel_reaches_an_agent_whose_session_is_on_another_server(world: World, database_url: str) -> None:
    await trigger(world)
    await world.settle()
    run, job = await world.job("p#1/x")
    world.fleet.agents = {}  # the session is elsewhere
    async with _heard(database_url, "stop_job") as heard:
        done = await world.runs.cancel_job(job.id)
        assert (done.status, done.signaled) == ("canceling", False)
        with trio.fail_after(10):
            assert await heard.receive() == f"{job.agent_id} {run.id} {job.id}"
