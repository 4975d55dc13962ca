"""GET /api/v1/projects/{slug}/vsm (contract-runs 2.3)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

from tests.api.test_conventions import error
from tests.api.test_runs import get
from tests.api.world import World, pipeline, repository


async def test_what_starts_what_and_how_long_it_waits(world: World, tmp_path: Path) -> None:
    where = tmp_path / "repo"
    repository(where, {"a.txt": "1"})
    made = await world.apply(
        files={
            "up.yaml": pipeline(
                "up",
                materials=[{"git": {"url": str(where), "branch": "main"}}],
                services=[{"name": "postgres", "image": "postgres:18"}],
            ),
            "down.yaml": pipeline("down", materials=[{"upstream": {"pipeline": "up", "stage": "build"}}]),
        }
    )
    up, down = (entry["pipeline_id"] for entry in made["pipelines"])
    agent = await world.agent_online()
    green = await world.trigger(up)
    await world.finish_jobs(agent, green)
    # The run that follows waits for its start: by hand, as the scheduler would dispatch it.
    world.now += timedelta(seconds=12.5)
    (following,) = [run["id"] for run in (await get(world, "/api/v1/runs", pipeline="down"))["runs"]]
    await world.runs.dispatch(UUID(following))
    found = await get(world, "/api/v1/projects/billing/vsm")
    assert (found["project_id"], found["project_slug"], found["project_name"]) == (
        made["project_id"],
        "billing",
        "billing",
    )
    assert found["generated_at"] == "2026-04-28T13:00:12.5Z"
    assert [node["name"] for node in found["nodes"]] == ["down", "up"]
    second, first = found["nodes"]
    assert first["pipeline_id"] == up
    assert first["git_materials"] == [{"url": str(where), "branch": "main"}]
    assert first["has_services"] is True
    assert first["latest_run"]["status"] == "success"
    assert first["latest_run"]["service_names"] == ["postgres"]
    assert first["metrics"]["runs_considered"] == 1
    assert [stage["name"] for stage in first["metrics"]["stage_stats"]] == ["build"]
    assert second["pipeline_id"] == down
    assert second["has_services"] is False
    assert "git_materials" not in second
    assert found["edges"] == [
        {
            "from_pipeline": "up",
            "to_pipeline": "down",
            "stage": "build",
            "status": "success",
            "wait_time_p50_seconds": 12.5,
            "wait_samples": 1,
        }
    ]


async def test_before_anything_ran(world: World) -> None:
    await world.apply(
        files={
            "up.yaml": pipeline("up", materials=[{"git": {"url": "https://ines:hush@example.org/x"}}]),
            "down.yaml": pipeline("down", materials=[{"upstream": {"pipeline": "up", "stage": "build"}}]),
        }
    )
    found = await get(world, "/api/v1/projects/billing/vsm")
    assert found["edges"] == [
        {"from_pipeline": "up", "to_pipeline": "down", "stage": "build", "status": "success"},
    ]
    assert found["nodes"][1]["git_materials"][0]["url"] == "https://example.org/x"
    assert "latest_run" not in found["nodes"][1]
    assert "metrics" not in found["nodes"][1]


async def test_no_pipelines_and_no_project(world: World) -> None:
    await world.apply()
    await world.http.post("/api/v1/projects/apply", json={"slug": "billing"})
    found = await get(world, "/api/v1/projects/billing/vsm")
    assert (found["nodes"], found["edges"]) == ([], [])
    assert error(await world.http.get("/api/v1/projects/nobody/vsm"), 404) == "project not found"
