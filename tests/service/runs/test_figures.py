"""What the figures of 10.1 say of runs, fed by what happens to them on a real database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
import triopg

from gocdnext.db.pool import Connection, Database, DatabaseUnavailableError, open_pool
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.service import JobReport, RunService
from gocdnext.runs.state import CANCELED, FAILED, RUNNING
from tests.scenarios.world import World

RECLAIMED, SWEEPS = "gocdnext_jobs_reclaimed_total", "gocdnext_job_reclaim_sweeps_total"
DISRUPTED = "gocdnext_jobs_disrupted_total"
SHIP = {"stage": "ship", "script": ["x"], "deploy": {"environment": "production"}}
LANE = {
    "supersede": "pipeline",
    "materials": [{"manual": True}],
    "stages": ["check", "ship"],
    "jobs": {
        "slow": {"stage": "check", "script": ["x"]},
        "gate": {"stage": "check", "approval": {"required": 1}},
        "ship": SHIP,
    },
}
LOCK = "SELECT pg_advisory_lock(hashtextextended('gocdnext.lane:' || $1::uuid::text, 0))"


async def trigger(world: World, name: str = "p") -> CreatedRun:
    created = await world.runs.create(NewRun((await world.pipeline(name))[0], "manual", "me"))
    await world.settle()
    return created


def count(world: World, name: str, **labels: str) -> float:
    """The figure; 0 where it has no such sample yet."""
    return world.figures.registry.get_sample_value(name, labels) or 0.0


async def silence(world: World) -> None:
    await world.db.execute("UPDATE agents SET last_seen_at = $1", world.now)
    world.now += timedelta(seconds=91)


async def test_jobs_of_silent_agents_are_counted_by_what_becomes_of_them(world: World) -> None:
    await trigger(world)
    for losses in range(1, 5):
        await world.settle()
        await silence(world)
        assert await world.runs.reap() == 1
        assert count(world, RECLAIMED, reason="stale", outcome="requeued") == min(losses, 3)
    assert count(world, RECLAIMED, reason="stale", outcome="failed_max") == 1
    assert (await world.job("p#1/x"))[1].status == FAILED
    assert count(world, SWEEPS, reason="stale", outcome="success") == 4


async def test_jobs_of_an_agent_that_registers_again_are_counted(world: World) -> None:
    await trigger(world)
    _, job = await world.job("p#1/x")
    assert job.agent_id is not None
    passes = count(world, SWEEPS, reason="register_fence", outcome="success")
    await world.runs.reclaim(job.agent_id)
    assert count(world, RECLAIMED, reason="register_fence", outcome="requeued") == 1
    assert count(world, SWEEPS, reason="register_fence", outcome="success") == passes + 1
    await world.settle()
    run, job = await world.job("p#1/x")
    assert job.agent_id is not None
    await world.runs.cancel_job(job.id)
    await world.runs.forgotten(job.agent_id, run.id, job.id, job.attempt)
    assert count(world, RECLAIMED, reason="forgotten", outcome="canceled") == 1
    # The same word once more is too late.
    await world.runs.forgotten(job.agent_id, run.id, job.id, job.attempt)
    assert count(world, RECLAIMED, reason="forgotten", outcome="skipped") == 1


async def test_a_pass_without_a_database_is_counted_as_an_error(world: World, database_url: str) -> None:
    await trigger(world)
    _, job = await world.job("p#1/x")
    assert job.agent_id is not None
    async with open_pool({"dsn": database_url}, size=1) as db:
        other = RunService(db, world.fleet, world, secrets=world.secrets, clock=lambda: world.now, new_id=uuid4)
    with pytest.raises(DatabaseUnavailableError):
        await other.reclaim(job.agent_id)
    assert count(world, SWEEPS, reason="register_fence", outcome="error") == 1


@pytest.mark.parametrize(
    ("job", "losses", "cancelled", "outcome"),
    [
        ({}, 0, False, "requeued"),
        ({}, 3, False, "failed_capped"),
        ({}, 0, True, "canceled"),
        ({"deploy": {"environment": "production", "version": "1"}}, 0, False, "failed_unsafe_target"),
    ],
)
async def test_attempts_whose_machine_was_taken_away_are_counted(
    world: World, job: dict[str, Any], losses: int, cancelled: bool, outcome: str
) -> None:
    await world.do_apply({"pipelines": {"p": {"stages": ["s"], "jobs": {"x": {"stage": "s", "script": ["x"], **job}}}}})
    created = await trigger(world)
    for lost in range(losses + 1):
        await world.settle()
        _, found = await world.job("p#1/x")
        assert found.agent_id is not None, found.error
        if cancelled:
            await world.runs.cancel_job(found.id)
        report = JobReport(created.run_id, found.id, found.agent_id, lost, "disrupted")
        assert await world.runs.complete(report)
        assert not await world.runs.complete(report)
    assert count(world, DISRUPTED, outcome=outcome) == 1


async def lane(world: World) -> CreatedRun:
    """A first run of a lane, which waits at its gate and has a job that runs."""
    await world.do_apply({"pipelines": {"lane": LANE}})
    return await trigger(world, "lane")


async def test_a_superseded_run_is_counted_and_every_server_hears_of_it(world: World, database_url: str) -> None:
    victim = await lane(world)
    heard: list[str] = []
    async with triopg.connect(database_url) as other:
        await other.add_listener("run_superseded", lambda _c, _p, _channel, payload: heard.append(payload))
        await trigger(world, "lane")
        with trio.fail_after(30):
            while not heard:
                await other.execute("SELECT 1")
    assert heard == [str(victim.run_id)]
    assert (await world.run("lane#1")).status == CANCELED
    assert count(world, "gocdnext_runs_superseded_total") == 1


async def test_a_superseded_run_whose_agents_could_not_be_told_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lane(world)
    assert (await world.job("lane#1/slow"))[1].status == RUNNING
    world.fleet.agents.clear()  # they are on another server, which is told through the database

    async def gone(_db: Database, *_: object) -> str:
        raise DatabaseUnavailableError("the database is away")

    monkeypatch.setattr(Database, "execute", gone)
    with pytest.raises(DatabaseUnavailableError):
        await world.runs.create(NewRun((await world.pipeline("lane"))[0], "manual", "me"))
    assert count(world, "gocdnext_supersede_backstop_errors_total") == 1


async def test_a_wait_for_a_lane_is_counted(world: World, database_url: str) -> None:
    first = await lane(world)
    assert count(world, "gocdnext_supersede_lock_busy_total") == 0
    await busy(world, database_url, first.pipeline_id, lambda: world.runs.dispatch(first.run_id))
    assert count(world, "gocdnext_supersede_lock_busy_total") == 1
    await busy(world, database_url, first.pipeline_id, lambda: trigger(world, "lane"))
    assert count(world, "gocdnext_supersede_lock_busy_total") == 2


async def busy(world: World, url: str, pipeline_id: UUID, act: Callable[[], Awaitable[object]]) -> None:
    """Acts while another server has the lane, which lets it go when somebody waits for it."""
    async with triopg.connect(url) as other:
        await other.fetchval(LOCK, pipeline_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(act)
            with trio.fail_after(30):
                while not await waiting(world):
                    await trio.lowlevel.checkpoint()
            await other.fetchval("SELECT pg_advisory_unlock_all()")


async def waiting(world: World) -> int:
    """Who waits for an advisory lock."""

    async def work(conn: Connection) -> int:
        found: int = await conn.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return found

    return await world.db.run(work)
