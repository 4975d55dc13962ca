"""POST /api/v1/pipelines/{id}/trigger over real HTTP with real repositories (contract-runs 5.2, spec-pipelines 9.9)."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
import trio

from tests.api.test_conventions import error
from tests.api.test_runs import get
from tests.api.world import World, commit, pipeline, repository


async def test_trigger_takes_the_head_of_the_branch(world: World, tmp_path: Path) -> None:
    where = tmp_path / "repo"
    first = repository(where, {"a.txt": "1"})
    scm = {"provider": "manual", "url": str(where)}
    made = await world.apply(scm_source=scm, files={"ci.yaml": pipeline("ci", materials=[])})
    pipeline_id = made["pipelines"][0]["pipeline_id"]
    answer = await world.http.post(
        f"/api/v1/pipelines/{pipeline_id}/trigger", json={"triggered_by": "ines", "git_ref": 5}
    )
    assert answer.status_code == 202
    assert answer.json() == {
        "id": answer.json()["run_id"],
        "run_id": answer.json()["run_id"],
        "counter": 1,
        "pipeline_id": pipeline_id,
    }
    detail = await get(world, f"/api/v1/runs/{answer.json()['id']}")
    assert detail["triggered_by"] == "ines"
    ((material, revision),) = detail["revisions"].items()
    assert revision == {"revision": first, "branch": "main"}
    assert detail["cause_detail"]["material_id"] == material
    assert isinstance(detail["cause_detail"]["modification_id"], int)
    meta = (await get(world, "/api/v1/projects"))["projects"][0]["latest_run_meta"]
    assert (meta["revision"], meta["branch"], meta["triggered_by"], meta["cause"]) == (first, "main", "ines", "manual")
    assert (await get(world, "/api/v1/projects/billing"))["pipelines"][0]["latest_run_meta"] == meta

    second = commit(where, {"a.txt": "2"})
    detail = await get(world, f"/api/v1/runs/{await world.trigger(pipeline_id)}")
    assert detail["revisions"][material]["revision"] == second
    assert detail["counter"] == 2
    # Nothing new: the same modification again, and a run all the same.
    third = await get(world, f"/api/v1/runs/{await world.trigger(pipeline_id)}")
    assert third["cause_detail"]["modification_id"] == detail["cause_detail"]["modification_id"]
    # The repository is gone: what is known is good enough.
    where.rename(tmp_path / "gone")
    assert (await get(world, f"/api/v1/runs/{await world.trigger(pipeline_id)}"))["revisions"][material][
        "revision"
    ] == second


async def test_trigger_without_a_reachable_repository(world: World, tmp_path: Path) -> None:
    materials = [{"git": {"url": f"https://user:secret@127.0.0.1:1/{tmp_path.name}", "branch": "main"}}]
    made = await world.apply(files={"ci.yaml": pipeline("ci", materials=materials)})
    told = error(await world.http.post(f"/api/v1/pipelines/{made['pipelines'][0]['pipeline_id']}/trigger"), 422)
    assert told.startswith("pipeline has no modifications yet, and branch 'main' of https://127.0.0.1:1/")
    assert "secret" not in told
    assert (await get(world, "/api/v1/runs"))["runs"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"not json", "invalid JSON body: "),
        (b"[]", "invalid JSON body: "),
        (b"null", "invalid JSON body: "),
        (b'{"triggered_by": 5}', "invalid JSON body: "),
        (b"{} x", "invalid JSON body: "),
        (b'{"a": ' + b"[" * 50_000, "invalid JSON body: "),
        (b" " * 65_537, "read body: "),
        (b'{"triggered_by": "' + b"a" * 6_000_000 + b'"}', "read body: "),
        (b'{"triggered_by": "a\\u0000"}', "triggered_by must be"),
        (b'{"triggered_by": "' + b"a" * 256 + b'"}', "triggered_by must be"),
    ],
)
async def test_bad_bodies_of_a_trigger(world: World, body: bytes, message: str) -> None:
    made = await world.apply()
    answer = await world.http.post(f"/api/v1/pipelines/{made['pipelines'][0]['pipeline_id']}/trigger", content=body)
    assert error(answer, 400).startswith(message)
    assert (await get(world, "/api/v1/runs"))["total"] == 0


async def test_trigger_follows_the_newest_green_upstream(world: World, tmp_path: Path) -> None:
    where = tmp_path / "repo"
    first = repository(where, {"a.txt": "1"})
    shared = {"git": {"url": str(where), "branch": "main"}}
    made = await world.apply(
        files={
            "up.yaml": pipeline("up", materials=[shared]),
            "down.yaml": pipeline("down", materials=[shared, {"upstream": {"pipeline": "up", "stage": "build"}}]),
        }
    )
    up, down = (p["pipeline_id"] for p in made["pipelines"])
    agent = await world.agent_online()
    green = await world.trigger(up)
    await world.finish_jobs(agent, green)
    commit(where, {"a.txt": "2"})
    detail = await get(world, f"/api/v1/runs/{await world.trigger(down)}")
    assert detail["cause"] == "manual"
    assert detail["cause_detail"]["resolved_upstream"] is True
    assert detail["cause_detail"]["upstream_run_id"] == green
    assert detail["cause_detail"]["upstream_run_counter"] == 1
    assert {"revision": green, "branch": ""} in detail["revisions"].values()
    assert {"revision": first, "branch": "main"} in detail["revisions"].values()
    own = {
        str(row["id"]) for row in await world.db.fetch("SELECT id FROM materials WHERE pipeline_id = $1", UUID(down))
    }
    assert set(detail["revisions"]) == own
    edges = (await get(world, "/api/v1/projects/billing"))["edges"]
    assert edges == [{"from_pipeline": "up", "to_pipeline": "down", "stage": "build", "status": "success"}]


async def test_concurrent_triggers_get_numbers_of_their_own(world: World) -> None:
    made = await world.apply()
    path = f"/api/v1/pipelines/{made['pipelines'][0]['pipeline_id']}/trigger"
    counters: list[int] = []

    async def one() -> None:
        answer = await world.http.post(path)
        assert answer.status_code == 202
        counters.append(answer.json()["counter"])

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert sorted(counters) == list(range(1, 21))
