"""Freezing environments over HTTP, and what the detail of a run says of it (spec-execution 10, contract-runs 3.3)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from gocdnext.runs.creation import NewRun
from gocdnext.runs.state import Revision
from tests.api.crowd import person
from tests.api.test_conventions import error
from tests.api.test_runs import get
from tests.api.world import World, pipeline

JOBS = {
    "sign-off": {"stage": "gate", "approval": {"approvers": []}},
    "ship": {"stage": "live", "script": ["ship"], "environment": "production"},
}
FREEZE = "/api/v1/projects/billing/environments/production/freeze"


async def waiting_gate(world: World) -> str:
    made = await world.apply(files={"ci.yaml": pipeline("ci", stages=["gate", "live"], jobs=JOBS)})
    return await world.trigger(made["pipelines"][0]["pipeline_id"])


async def gate_of(world: World, run_id: str) -> Any:
    return (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][0]


async def test_a_freeze_holds_gates_and_says_so(world: World) -> None:
    run_id = await waiting_gate(world)
    assert "held_by_freeze" not in await gate_of(world, run_id)
    assert (await world.http.put(FREEZE, json={"reason": "release week", "user": "ines"})).status_code == 204
    gate = await gate_of(world, run_id)
    assert (gate["held_by_freeze"], gate["frozen_envs"]) == (True, ["production"])
    assert "held_by_freeze" not in (await get(world, f"/api/v1/runs/{run_id}"))["stages"][1]["jobs"][0]
    refused = await world.http.post(f"/api/v1/job_runs/{gate['id']}/approve")
    assert "production" in error(refused, 409)
    row = await world.db.fetchrow("SELECT name, reason, frozen_by FROM environment_freezes")
    assert row is not None
    assert tuple(row) == ("production", "release week", "ines")
    assert (await world.http.delete(FREEZE)).status_code == 204
    assert "held_by_freeze" not in await gate_of(world, run_id)
    assert (await world.http.post(f"/api/v1/job_runs/{gate['id']}/approve")).status_code == 202


async def test_what_is_refused(world: World) -> None:
    await waiting_gate(world)
    for reason in ("", "  ", "r" * 501):
        assert error(await world.http.put(FREEZE, json={"reason": reason}), 400).startswith("reason:")
    long = FREEZE.replace("production", "e" * 65)
    assert error(await world.http.put(long, json={"reason": "r"}), 400).startswith("environment:")
    assert error(await world.http.put(FREEZE, json={"reason": "r", "user": "u" * 321}), 400).startswith("actor:")
    assert error(await world.http.put(FREEZE.replace("billing", "none"), json={"reason": "r"}), 404)
    assert error(await world.http.delete(FREEZE), 404)


async def test_viewers_cannot_freeze(guarded: World) -> None:
    headers = (await person(guarded, "viewer")).headers
    for method in ("PUT", "DELETE"):
        assert error(await guarded.http.request(method, FREEZE, headers=headers), 403) == "forbidden"


DEPLOYS = {"ship": {"stage": "live", "script": ["ship"], "deploy": {"environment": "production"}}}
ENVIRONMENTS = "/api/v1/projects/billing/environments"
HISTORY = f"{ENVIRONMENTS}/production/deployments"
ROLLBACK = f"{ENVIRONMENTS}/production/rollback"


async def deployed(world: World, *outcomes: str) -> None:
    """A run for each outcome, each of another commit."""
    agent = next(iter(world.fleet.agents.values()), None) or await world.agent_online()
    made = await world.apply(files={"ci.yaml": pipeline("ci", stages=["live"], jobs=DEPLOYS)})
    pipeline_id = UUID(made["pipelines"][0]["pipeline_id"])
    for number, outcome in enumerate(outcomes):
        world.now += timedelta(minutes=1)
        revision = Revision(f"{number + 1}" * 40, "main")
        run = await world.runs.create(NewRun(pipeline_id, "manual", "ines", {str(pipeline_id): revision}))
        await world.finish_jobs(agent, str(run.run_id), outcome)


async def test_what_is_deployed_and_what_was(world: World) -> None:
    await deployed(world, "success", "success", "failed")
    await world.http.put(FREEZE, json={"reason": "release week", "user": "ines"})
    (one,) = (await get(world, ENVIRONMENTS))["environments"]
    assert (one["name"], one["total_deploys"], one["current"]["version"]) == ("production", 3, "22222222")
    assert (one["freeze"]["reason"], one["freeze"]["frozen_by"]) == ("release week", "ines")
    found = (await get(world, HISTORY))["deployments"]
    assert [(entry["version"], entry["status"]) for entry in found] == [
        ("33333333", "failed"),
        ("22222222", "success"),
        ("11111111", "success"),
    ]
    assert (found[0]["pipeline_name"], found[0]["counter"], found[0]["is_rollback"]) == ("ci", 3, False)
    page = (await world.http.get(f"{HISTORY}?limit=1&offset=1")).json()["deployments"]
    assert [entry["version"] for entry in page] == ["22222222"]


async def test_an_environment_that_is_only_frozen_is_listed(world: World) -> None:
    await world.apply()
    await world.http.put(FREEZE, json={"reason": "r"})
    (one,) = (await get(world, ENVIRONMENTS))["environments"]
    assert (one["name"], one["total_deploys"], "current" in one) == ("production", 0, False)


async def test_an_earlier_deployment_is_made_again_by_its_job(world: World) -> None:
    await deployed(world, "success", "success")
    world.now += timedelta(minutes=1)
    _, oldest = (await get(world, HISTORY))["deployments"]
    answer = await world.http.post(ROLLBACK, json={"deployment_id": oldest["id"]})
    assert answer.status_code == 202, answer.text
    assert answer.json() == {
        "job_run_id": oldest["job_run_id"],
        "run_id": oldest["run_id"],
        "attempt": 1,
        "is_rollback": True,
    }
    assert "active" in error(await world.http.post(ROLLBACK, json={"deployment_id": oldest["id"]}), 409)
    await world.finish_jobs(next(iter(world.fleet.agents.values())), oldest["run_id"])
    (one,) = (await get(world, ENVIRONMENTS))["environments"]
    assert one["current"]["version"] == "11111111"
    first = (await get(world, HISTORY))["deployments"][0]
    assert (first["is_rollback"], first["version"]) == (True, "11111111")
    again = await world.http.post(ROLLBACK)
    assert (again.status_code, again.json()["is_rollback"]) == (202, False)


async def test_what_cannot_be_made_again(world: World) -> None:
    await deployed(world, "success", "failed")
    failed, good = (await get(world, HISTORY))["deployments"]
    assert "failed" in error(await world.http.post(ROLLBACK, json={"deployment_id": failed["id"]}), 409)
    await world.http.put(FREEZE, json={"reason": "r"})
    assert "frozen" in error(await world.http.post(ROLLBACK, json={"deployment_id": good["id"]}), 409)
    await world.http.delete(FREEZE)
    await world.db.execute("DELETE FROM runs")
    assert "deleted" in error(await world.http.post(ROLLBACK, json={"deployment_id": good["id"]}), 409)
    for path, body, status in (
        (ROLLBACK, {"deployment_id": "x"}, 400),
        (ROLLBACK, {"deployment_id": "00000000-0000-4000-8000-000000000001"}, 404),
        (ROLLBACK.replace("production", "nowhere"), {}, 404),
        (ROLLBACK.replace("billing", "nobody"), {}, 404),
    ):
        assert error(await world.http.post(path, json=body), status)
    assert error(await world.http.get(HISTORY.replace("billing", "nobody")), 404)
    assert error(await world.http.get(f"{HISTORY}?limit=0"), 400)
