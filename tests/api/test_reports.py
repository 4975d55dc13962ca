"""Test results, coverage and services of runs as clients read them (contract-runs 3.7, 6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from gocdnext.reports import coverage, services, testing
from gocdnext.reports.coverage import Lines
from gocdnext.reports.testing import Attempt, Case
from tests.api.test_conventions import error
from tests.api.test_runs import UNKNOWN, get
from tests.api.world import World, pipeline
from tests.scenarios.fleet import ScriptedAgent


async def running(world: World, pipeline_id: str, agent: ScriptedAgent) -> tuple[str, Attempt]:
    """A run whose first job the agent has: (run id, what it reports for)."""
    run_id = await world.trigger(pipeline_id)
    await world.runs.dispatch(UUID(run_id))
    made = next(made for made in agent.jobs.values() if made.run_id == UUID(run_id))
    return run_id, Attempt(made.job_id, agent.id, made.attempt)


async def started(world: World) -> tuple[str, ScriptedAgent, str, Attempt]:
    """(pipeline id, agent, run id, attempt)."""
    made = await world.apply(files={"ci.yaml": pipeline("ci")})
    pipeline_id = made["pipelines"][0]["pipeline_id"]
    agent = await world.agent_online()
    return pipeline_id, agent, *await running(world, pipeline_id, agent)


async def test_results_of_a_run(world: World) -> None:
    _, agent, run_id, attempt = await started(world)
    assert await get(world, f"/api/v1/runs/{run_id}/tests") == {"summaries": [], "cases": []}
    cases = [
        Case("money", "tests.round", "half", "failed", 30, "AssertionError", "1.2 != 1.3", "trace", "out", "err"),
        Case("money", "", "zero", "passed", 1),
    ]
    assert await testing.replace(world.db, attempt, cases, world.now)
    found = await get(world, f"/api/v1/runs/{run_id}/tests")
    job = str(attempt.job_id)
    assert found["summaries"] == [
        {"job_run_id": job, "total": 2, "passed": 1, "failed": 1, "skipped": 0, "errored": 0, "duration_ms": 31}
    ]
    assert found["cases"] == [
        {
            "id": found["cases"][0]["id"],
            "job_run_id": job,
            "suite": "money",
            "name": "zero",
            "status": "passed",
            "duration_ms": 1,
        },
        {
            "id": found["cases"][1]["id"],
            "job_run_id": job,
            "suite": "money",
            "classname": "tests.round",
            "name": "half",
            "status": "failed",
            "duration_ms": 30,
            "failure_type": "AssertionError",
            "failure_message": "1.2 != 1.3",
            "failure_detail": "trace",
        },
    ]
    one = await get(world, f"/api/v1/runs/{run_id}/tests", limit=1, offset=1)
    assert [case["name"] for case in one["cases"]] == ["half"]
    assert one["summaries"] == found["summaries"]
    await world.finish_jobs(agent, run_id, "failed")
    assert (await get(world, f"/api/v1/runs/{run_id}/tests"))["cases"] == found["cases"]
    assert (await world.http.post(f"/api/v1/job_runs/{job}/rerun")).status_code == 202
    assert await get(world, f"/api/v1/runs/{run_id}/tests") == {"summaries": [], "cases": []}
    assert await world.db.fetchval("SELECT count(*) FROM test_results") == 0


async def test_what_is_refused(world: World) -> None:
    http = world.http
    assert error(await http.get(f"/api/v1/runs/{UNKNOWN}/tests"), 404) == "not found"
    for path in ("runs/x/tests", "runs/x/coverage", "runs/x/services", "pipelines/x/coverage-trend"):
        assert error(await http.get(f"/api/v1/{path}"), 400) == "invalid id"
    for path in ("tests", "coverage", "services"):
        for bad in ("limit=0", "limit=x", "limit=2147483648", "offset=-1"):
            assert error(await http.get(f"/api/v1/runs/{UNKNOWN}/{path}?{bad}"), 400).startswith("invalid '")
    for query in ("", "?name=", "?classname=C"):
        assert error(await http.get(f"/api/v1/tests/history{query}"), 400) == "`name` query param is required"
    for bad in ("0", "-1", "x", "1.5", "2147483648"):
        assert error(await http.get(f"/api/v1/tests/history?name=a&limit={bad}"), 400) == "invalid `limit`"


async def test_history_of_a_case(world: World) -> None:
    pipeline_id, agent, run_id, attempt = await started(world)
    for day in range(3):
        case = Case("s", "C", "t", "failed" if day else "passed", day, failure_message="why" if day else "")
        other = Case("s", "", "t", "passed", 5)
        await testing.replace(world.db, attempt, [case, other], world.now + timedelta(days=day))
        await world.finish_jobs(agent, run_id)
        run_id, attempt = await running(world, pipeline_id, agent)
    entries = (await get(world, "/api/v1/tests/history", name="t", classname="C"))["entries"]
    assert [entry["run_counter"] for entry in entries] == [3, 2, 1]
    assert entries[0] == {
        "id": entries[0]["id"],
        "run_id": entries[0]["run_id"],
        "run_counter": 3,
        "pipeline_name": "ci",
        "project_slug": "billing",
        "status": "failed",
        "duration_ms": 2,
        "failure_message": "why",
        "at": "2026-04-30T13:00:00Z",
    }
    assert "failure_message" not in entries[2]
    assert len((await get(world, "/api/v1/tests/history", name="t"))["entries"]) == 3, "the ones without a class"
    assert len((await get(world, "/api/v1/tests/history", name="t", classname="C", limit=2))["entries"]) == 2
    assert len((await get(world, "/api/v1/tests/history", name="t", classname="C", limit=101))["entries"]) == 3
    assert await get(world, "/api/v1/tests/history", name="nobody") == {"entries": []}


async def covered(world: World, attempt: Attempt, lines: Lines, day: int, *packages: Lines) -> None:
    now = world.now + timedelta(days=day)
    assert await coverage.replace(world.db, attempt, "lcov", lines, packages, now)


async def test_coverage_and_its_baseline(world: World) -> None:
    pipeline_id, agent, run_id, attempt = await started(world)
    await covered(world, attempt, Lines(790, 990), 0)
    await world.db.execute("UPDATE runs SET cause = 'webhook' WHERE id = $1", UUID(run_id))
    await world.finish_jobs(agent, run_id)
    manual, attempt = await running(world, pipeline_id, agent)
    await covered(world, attempt, Lines(1, 990), 1)
    await world.finish_jobs(agent, manual)
    last, attempt = await running(world, pipeline_id, agent)
    await covered(world, attempt, Lines(812, 1000), 2, Lines(2, 4, "core"), Lines(9, 4, "impossible"))
    assert await get(world, f"/api/v1/runs/{last}/coverage") == {
        "coverage": [
            {
                "job_run_id": str(attempt.job_id),
                "job_name": "compile",
                "format": "lcov",
                "lines_covered": 812,
                "lines_total": 1000,
                "packages": [{"name": "core", "lines_covered": 2, "lines_total": 4}],
                "created_at": "2026-04-30T13:00:00Z",
                "baseline": {"run_id": run_id, "lines_covered": 790, "lines_total": 990},
            }
        ]
    }
    first = (await get(world, f"/api/v1/runs/{run_id}/coverage"))["coverage"][0]
    assert "baseline" not in first
    assert "packages" not in first
    assert await get(world, f"/api/v1/runs/{UNKNOWN}/coverage") == {"coverage": []}
    assert (await get(world, f"/api/v1/runs/{last}/coverage", offset=1))["coverage"] == []
    await world.finish_jobs(agent, last)
    assert (await world.http.post(f"/api/v1/job_runs/{attempt.job_id}/rerun")).status_code == 202
    assert await get(world, f"/api/v1/runs/{last}/coverage") == {"coverage": []}


async def test_coverage_trend_has_its_limit_per_series(world: World) -> None:
    matrix = {"compile": {"stage": "build", "script": ["make"], "parallel": {"matrix": [{"DB": ["pg", "my"]}]}}}
    made = await world.apply(files={"ci.yaml": pipeline("ci", jobs=matrix)})
    pipeline_id = made["pipelines"][0]["pipeline_id"]
    agent = await world.agent_online()
    for day in range(3):
        run_id = await world.trigger(pipeline_id)
        await world.runs.dispatch(UUID(run_id))
        jobs = sorted(agent.jobs.values(), key=lambda made: made.job_id)
        assert len(jobs) == 2
        for job in jobs:
            await covered(world, Attempt(job.job_id, agent.id, job.attempt), Lines(day, 10), day)
        await world.finish_jobs(agent, run_id)

    async def points(**query: object) -> list[Any]:
        found: list[Any] = (await get(world, f"/api/v1/pipelines/{pipeline_id}/coverage-trend", **query))["points"]
        return found

    everything = await points()
    assert [point["lines_covered"] for point in everything] == [2, 2, 1, 1, 0, 0]
    assert set(everything[0]) == {"run_id", "job_name", "matrix_key", "lines_covered", "lines_total", "created_at"}
    newest = await points(limit=1)
    assert [(point["matrix_key"], point["lines_covered"]) for point in newest] == [("DB=my", 2), ("DB=pg", 2)]
    for strange in (0, -1, 201, "x", "99999999999", ""):
        assert await points(limit=strange) == everything
    assert await get(world, f"/api/v1/pipelines/{UNKNOWN}/coverage-trend") == {"points": []}


async def test_services_of_a_run(world: World) -> None:
    _, agent, run_id, _ = await started(world)
    answer = await world.http.get(f"/api/v1/runs/{run_id}/services")
    assert (answer.json(), answer.headers["x-total-count"]) == ([], "0")
    for name in ("redis", "db"):
        change = services.Change(UUID(run_id), agent.id, name, "img:1", "", "ready", "", world.now, holds_job=True)
        assert await services.keep(world.db, uuid4(), change)
    answer = await world.http.get(f"/api/v1/runs/{run_id}/services")
    assert answer.headers["x-total-count"] == "2"
    assert [entry["name"] for entry in answer.json()] == ["db", "redis"]
    assert answer.json()[0] == {
        "id": answer.json()[0]["id"],
        "name": "db",
        "image": "img:1",
        "status": "ready",
        "started_at": "2026-04-28T13:00:00Z",
        "ready_at": "2026-04-28T13:00:00Z",
    }
    answer = await world.http.get(f"/api/v1/runs/{run_id}/services?limit=1&offset=1")
    assert ([entry["name"] for entry in answer.json()], answer.headers["x-total-count"]) == (["redis"], "2")
    assert await get(world, f"/api/v1/runs/{UNKNOWN}/services") == []


async def test_plans_of_what_grows(world: World) -> None:
    """The history of a case and the trend of a pipeline are found through their indexes."""
    for name, arguments in (("test_history", ("a", "b", 14)), ("coverage_trend", (uuid4(), 50))):
        from gocdnext.db import queries

        async def work(conn: Any, text: str = getattr(queries.load("reports"), name), given: Any = arguments) -> str:
            await conn.execute("SET LOCAL enable_seqscan = off")
            rows = await conn.fetch(f"EXPLAIN {text.rstrip().rstrip(';')}", *given)
            return "\n".join(row[0] for row in rows)

        plan = await world.db.transaction(work)
        assert ("test_results_history" if name == "test_history" else "coverage_reports_series") in plan
