"""Why the runs of a list wait: the same answer as in their details, for a page at once (issue of the run engine)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from gocdnext.api import explained
from gocdnext.db import queries
from gocdnext.db.pool import Database
from tests.api.test_environments import FREEZE, JOBS
from tests.api.test_runs import get
from tests.api.world import World, pipeline
from tests.service.projects.test_plans import scanned


async def start(world: World, name: str = "ci", **more: Any) -> tuple[str, str]:
    """A pipeline and a run of it: (pipeline id, run id)."""
    made = await world.apply(files={f"{name}.yaml": pipeline(name, **more)})
    pipeline_id = made["pipelines"][0]["pipeline_id"]
    return pipeline_id, await world.trigger(pipeline_id)


async def listed(world: World) -> list[dict[str, Any]]:
    """`waiting` by run id in the feed, the project's runs, its pipelines and their value stream."""
    feed = (await get(world, "/api/v1/runs"))["runs"]
    project = await get(world, "/api/v1/projects/billing")
    newest = [one["latest_run"] for one in project["pipelines"] if "latest_run" in one]
    stream = (await get(world, "/api/v1/projects/billing/vsm"))["nodes"]
    mapped = [one["latest_run"] for one in stream if "latest_run" in one]
    return [{run["id"]: run.get("waiting") for run in runs} for runs in (feed, project["runs"], newest, mapped)]


async def test_lists_say_what_details_say(world: World) -> None:
    pipeline_id, first = await start(world, concurrency="serial")
    world.now += timedelta(seconds=1)
    second = await world.trigger(pipeline_id)
    no_agent = {"code": "no_agent", "text": "no agent is connected"}
    for waiting in await listed(world):
        assert waiting[second] == no_agent == (await get(world, f"/api/v1/runs/{second}"))["waiting"]
    agent = await world.agent_online()
    await world.runs.dispatch(UUID(first))
    serial = {"code": "serial", "text": "another run of this serial pipeline is running", "detail": first}
    feed, recent, newest, mapped = await listed(world)
    assert feed == recent == {second: serial, first: None}
    assert newest == mapped == {second: serial}
    await world.finish_jobs(agent, first)
    await world.finish_jobs(agent, second)
    assert await listed(world) == [
        {second: None, first: None},
        {second: None, first: None},
        {second: None},
        {second: None},
    ]


async def test_a_frozen_gate_is_marked_in_the_project(world: World) -> None:
    _, run_id = await start(world, stages=["gate", "live"], jobs=JOBS)

    async def gate() -> Any:
        return (await get(world, "/api/v1/projects/billing"))["pipelines"][0]["latest_run_stages"][0]["jobs"][0]

    assert (await listed(world))[0][run_id] == {
        "code": "gate",
        "text": "waits for 1 more approval by anyone",
        "detail": "1",
    }
    assert "held_by_freeze" not in await gate()
    await world.http.put(FREEZE, json={"reason": "release week"})
    assert ((await gate())["held_by_freeze"], (await gate())["frozen_envs"]) == (True, ["production"])


async def test_one_statement_for_a_page_and_none_without_open_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_id, _ = await start(world)
    for _ in range(4):
        await world.trigger(pipeline_id)
    statements: list[str] = []
    run = Database.run

    async def counted(self: Database, work: Any) -> Any:
        async def watched(conn: Any) -> Any:
            with conn.query_logger(lambda record: statements.append(record.query)):
                return await work(conn)

        return await run(self, watched)

    monkeypatch.setattr(Database, "run", counted)
    assert all("waiting" in one for one in (await get(world, "/api/v1/runs"))["runs"])
    loads = queries.load("runs").load_runs
    assert len(statements) == 4  # what is visible, the page, how many there are, why they wait
    assert statements.count(loads) == 1
    await get(world, "/api/v1/projects/billing")
    assert statements.count(loads) == 2
    statements.clear()
    await get(world, "/api/v1/runs", status="success")
    assert len(statements) == 3


async def test_a_run_too_large_for_the_page_is_listed_without_a_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = {f"job-{number}": {"stage": "build", "script": ["make"]} for number in range(5)}
    made = await world.apply(files={"large": pipeline("large", jobs=jobs), "small": pipeline("small")})
    large, small = [await world.trigger(one["pipeline_id"]) for one in made["pipelines"]]
    monkeypatch.setattr(explained, "MAX_JOBS", 4)
    feed = (await listed(world))[0]
    assert feed[small] is not None
    assert feed[large] is None
    assert (await get(world, f"/api/v1/runs/{large}"))["waiting"]["code"] == "no_agent"


async def test_loading_many_runs_stays_on_indexes(world: World) -> None:
    pipeline_id, run_id = await start(world)
    runs = [UUID(await world.trigger(pipeline_id)) for _ in range(3)] + [UUID(run_id)]
    await world.db.execute(
        "WITH made AS (INSERT INTO runs (id, pipeline_id, definition_id, counter, cause, status, created_at)"
        " SELECT gen_random_uuid(), p.id, p.definition_id, n, 'manual', 'success', $1"
        " FROM pipelines p, generate_series(100, 5000) AS n RETURNING id),"
        " stages AS (INSERT INTO stage_runs (id, run_id, name, ordinal, status)"
        " SELECT gen_random_uuid(), made.id, 'build', 0, 'success' FROM made RETURNING id, run_id)"
        " INSERT INTO job_runs (id, run_id, stage_run_id, name, status)"
        " SELECT gen_random_uuid(), run_id, id, 'compile', 'success' FROM stages",
        world.now,
    )
    await world.db.execute("ANALYZE")
    statement = queries.load("runs").load_runs
    plan = await world.db.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", runs)
    assert not {"runs", "stage_runs", "job_runs"} & set(scanned(json.loads(plan)[0]["Plan"]))
