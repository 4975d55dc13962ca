"""DELETE /api/v1/projects/{slug}, POST .../run-all, GET /api/v1/dashboard/metrics (contract-runs 2.6, 2.7, 8.1)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

from gocdnext.runs.service import JobReport
from tests.api.crowd import person
from tests.api.test_conventions import error
from tests.api.test_runs import get, log
from tests.api.world import TOKEN, World, partitioned, pipeline, repository

# Rows of the other project, which stays.
LEFT = {"projects": 1, "pipelines": 1, "materials": 1, "runs": 1, "stage_runs": 2, "job_runs": 2}
LEFT |= {"log_lines": 0, "log_cursors": 0, "secrets": 0, "scm_sources": 0}


async def test_a_project_goes_with_everything(world: World, tmp_path: Path) -> None:
    await partitioned(world.db)
    repository(tmp_path / "repo", {"a.txt": "1"})
    scm = {"provider": "manual", "url": str(tmp_path / "repo")}
    made = await world.apply(scm_source=scm, files={"a.yaml": pipeline("a"), "b.yaml": pipeline("b")})
    other = await world.apply("other")
    answer = await world.http.post("/api/v1/projects/billing/secrets", json={"name": "KEY", "value": "hush"})
    assert answer.status_code in (200, 201)
    agent = await world.agent_online()
    first, second = [await world.trigger(entry["pipeline_id"]) for entry in made["pipelines"]]
    kept = await world.trigger(other["pipelines"][0]["pipeline_id"])
    for run_id in (first, second):
        await world.runs.dispatch(UUID(run_id))
        job = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][0]
        await log(world, run_id, job["id"], "one", "two")
    running = {made.job_id for made in agent.jobs.values() if str(made.run_id) != kept}
    assert len(running) == 2
    answer = await world.http.delete("/api/v1/projects/billing")
    assert answer.status_code == 200
    assert answer.json() == {
        "slug": "billing",
        "pipelines_deleted": 2,
        "runs_deleted": 2,
        "secrets_deleted": 1,
        "scm_sources_deleted": 1,
    }
    assert set(world.fleet.cancels) == running
    metrics = (await world.http.get("/metrics")).text
    assert "\ngocdnext_jobs_running 1.0" in metrics  # that of the other project
    assert {table: await world.db.fetchval(f"SELECT count(*) FROM {table}") for table in LEFT} == LEFT
    assert [run["id"] for run in (await get(world, "/api/v1/runs"))["runs"]] == [kept]
    # What the agent still reports is nobody's.
    for assignment in [made for made in agent.jobs.values() if made.job_id in running]:
        report = JobReport(assignment.run_id, assignment.job_id, agent.id, assignment.attempt, "failed", 143)
        assert await world.runs.complete(report) is False
    assert error(await world.http.delete("/api/v1/projects/billing"), 404) == "project not found"
    await world.apply()


async def test_only_an_administrator_deletes(guarded: World) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = await guarded.http.post("/api/v1/projects/apply", json={"slug": "billing"}, headers=headers)
    assert answer.status_code == 200
    maintainer = (await person(guarded, "maintainer")).headers
    assert error(await guarded.http.delete("/api/v1/projects/billing", headers=maintainer), 403) == "forbidden"
    assert (await guarded.http.delete("/api/v1/projects/billing", headers=headers)).json()["slug"] == "billing"


async def test_every_pipeline_is_started(world: World, tmp_path: Path) -> None:
    head = repository(tmp_path / "repo", {"a.txt": "1"})
    made = await world.apply(
        files={
            "ok.yaml": pipeline("ok", materials=[{"git": {"url": str(tmp_path / "repo"), "branch": "main"}}]),
            "lost.yaml": pipeline("lost", materials=[{"git": {"url": str(tmp_path / "nowhere"), "branch": "main"}}]),
        }
    )
    ok, lost = (entry["pipeline_id"] for entry in made["pipelines"])
    answer = await world.http.post("/api/v1/projects/billing/run-all")
    assert answer.status_code == 202
    failed, started = answer.json()["results"]
    assert failed["pipeline_id"] == lost
    assert failed["error"].startswith("pipeline has no modifications yet")
    assert "run_id" not in failed
    assert started == {"pipeline_id": ok, "run_id": answer.json()["run_ids"][0]}
    detail = await get(world, f"/api/v1/runs/{started['run_id']}")
    assert (detail["cause"], detail["triggered_by"]) == ("manual", "manual")
    assert detail["cause_detail"]["run_all"] is True
    assert detail["cause_detail"]["fired_at"] == "2026-04-28T13:00:00Z"
    assert [entry["revision"] for entry in detail["revisions"].values()] == [head]
    assert len((await world.http.post("/api/v1/projects/billing/run-all")).json()["run_ids"]) == 1


async def test_nothing_to_start(world: World) -> None:
    assert error(await world.http.post("/api/v1/projects/nobody/run-all"), 404) == "project not found"
    await world.http.post("/api/v1/projects/apply", json={"slug": "empty"})
    answer = await world.http.post("/api/v1/projects/empty/run-all")
    assert (answer.status_code, answer.json()) == (202, {"results": [], "run_ids": []})


async def test_dashboard(world: World) -> None:
    nothing = {"runs_today": 0, "successes_7d": 0, "failures_7d": 0, "canceled_7d": 0, "success_rate_7d": 0.0}
    nothing |= {"p50_seconds_7d": 0.0, "queued_runs": 0, "pending_jobs": 0}
    assert await get(world, "/api/v1/dashboard/metrics") == nothing
    made = await world.apply()
    pipeline_id = made["pipelines"][0]["pipeline_id"]
    agent = await world.agent_online()
    for status, took in (("success", 10), ("success", 20), ("success", 40), ("failed", 90)):
        run_id = await world.trigger(pipeline_id)
        await world.runs.dispatch(UUID(run_id))
        world.now += timedelta(seconds=took)
        await world.finish_jobs(agent, run_id, status)
    world.fleet.agents.clear()
    canceled = await world.trigger(pipeline_id)
    await world.http.post(f"/api/v1/runs/{canceled}/cancel")
    await world.trigger(pipeline_id)
    found = await get(world, "/api/v1/dashboard/metrics")
    assert found == {
        "runs_today": 6,
        "successes_7d": 3,
        "failures_7d": 1,
        "canceled_7d": 1,
        "success_rate_7d": 0.75,
        "p50_seconds_7d": 30.0,
        "queued_runs": 1,
        "pending_jobs": 2,
    }
    world.now += timedelta(days=8)
    found = await get(world, "/api/v1/dashboard/metrics")
    assert found == nothing | {"queued_runs": 1, "pending_jobs": 2}
