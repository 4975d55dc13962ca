"""Deployment records and time limits, which scenarios cannot see."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gocdnext.errors import InvalidError, NotFoundError
from gocdnext.runs.creation import NewRun
from gocdnext.runs.service import JobReport
from gocdnext.runs.state import FAILED, RUNNING, Revision
from tests.scenarios.world import SLUG, World

DEPLOY = {"stages": ["s"], "jobs": {"x": {"stage": "s", "script": ["x"], "deploy": {"environment": "prod"}}}}
LIMITED = {"stages": ["s"], "jobs": {"x": {"stage": "s", "script": ["x"], "timeout": "90s"}}}


async def trigger(world: World, pipeline: dict[str, object], *, refuse: bool = False) -> None:
    await world.do_apply({"pipelines": {"p": pipeline}})
    pipeline_id = await world.db.fetchval("SELECT id FROM pipelines WHERE name = 'p'")
    world.fleet.refuse = refuse
    await world.runs.create(NewRun(pipeline_id, "manual", "ann", {"m": Revision("5ca1ab1e" * 5, "main")}))
    if not refuse:
        await world.settle()


async def records(world: World) -> list[tuple[object, ...]]:
    rows = await world.db.fetch(
        "SELECT e.name, d.version, d.revision, d.status, d.deployed_by, d.attempt, e.total_deploys "
        "FROM deployment_revisions d JOIN environments e ON e.id = d.environment_id ORDER BY d.created_at"
    )
    return [tuple(row) for row in rows]


async def finish(world: World, status: str) -> None:
    run, job = await world.job("p#1/x")
    assert job.agent_id is not None
    assert await world.runs.complete(JobReport(run.id, job.id, job.agent_id, job.attempt, status))


@pytest.mark.parametrize(
    ("reported", "recorded"), [("success", "success"), ("failed", "failed"), ("disrupted", "failed")]
)
async def test_a_deployment_is_recorded_from_its_start_to_its_end(world: World, reported: str, recorded: str) -> None:
    await trigger(world, DEPLOY)
    assert await records(world) == [("prod", "5ca1ab1e", "5ca1ab1e", "in_progress", "ann", 0, 1)]
    await finish(world, reported)
    assert [row[3] for row in await records(world)] == [recorded]


async def test_a_deployment_that_was_never_sent_is_not_one(world: World) -> None:
    await trigger(world, DEPLOY, refuse=True)
    await world.runs.dispatch((await world.run("p#1")).id)
    assert await records(world) == []
    assert await world.db.fetchval("SELECT total_deploys FROM environments") == 0


async def test_a_rerun_is_a_deployment_of_its_own(world: World) -> None:
    await trigger(world, DEPLOY)
    await finish(world, "failed")
    _, job = await world.job("p#1/x")
    await world.runs.rerun_job(job.id, rollback=True)
    await world.settle()
    assert [(row[3], row[5]) for row in await records(world)] == [("failed", 0), ("in_progress", 1)]
    assert await world.db.fetchval("SELECT is_rollback FROM deployment_revisions WHERE attempt = 1")


async def test_a_job_past_its_time_limit_is_ended_by_the_server_when_its_agent_does_not(world: World) -> None:
    await trigger(world, LIMITED)
    world.now += timedelta(seconds=90 + 59)
    assert await world.runs.end_overdue() == 0, "the agent has a minute to do it"
    world.now += timedelta(seconds=3)
    assert await world.runs.end_overdue() == 1
    _, job = await world.job("p#1/x")
    assert (job.status, job.exit_code, job.error) == (FAILED, -1, "timed out after 1m30s")
    assert world.fleet.cancels == [job.id]


async def test_freezes_are_checked(world: World) -> None:
    await trigger(world, DEPLOY)
    with pytest.raises(NotFoundError):
        await world.environments.freeze("nobody", "prod", "why", "ann")
    for bad in ({"name": ""}, {"name": "x" * 65}, {"reason": " "}, {"reason": "x" * 501}):
        with pytest.raises(InvalidError):
            await world.environments.freeze(**{"slug": SLUG, "name": "prod", "reason": "why", "by": "ann"} | bad)
    assert not await world.environments.unfreeze(SLUG, "prod")
    await world.environments.freeze(SLUG, "prod", "sale", "ann")
    await world.environments.freeze(SLUG, "prod", "still", "bo")
    assert await world.environments.unfreeze(SLUG, "prod")
    _, job = await world.job("p#1/x")
    assert job.status == RUNNING, "a freeze does not touch what runs"
