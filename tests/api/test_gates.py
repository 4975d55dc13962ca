"""Approve, reject, rerun over HTTP (contract-runs 3.10, 4.2, 4.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.world import World

GATED = json.dumps(
    {
        "name": "ci",
        "materials": [{"manual": True}],
        "stages": ["ok", "ship"],
        "jobs": {
            "g": {"stage": "ok", "approval": {"approvers": ["ann", "bo", "cy"], "required": 2, "description": "ship?"}},
            "s": {"stage": "ship", "script": ["x"]},
        },
    }
)


async def gated(world: World) -> tuple[str, str]:
    """A run that waits at its gate: (run id, gate id)."""
    applied = await world.apply(files={"ci.yaml": GATED})
    run_id = await world.trigger(applied["pipelines"][0]["pipeline_id"])
    return run_id, (await job_of(world, run_id, "g"))["id"]


async def job_of(world: World, run_id: str, name: str) -> dict[str, Any]:
    detail = (await world.http.get(f"/api/v1/runs/{run_id}")).json()
    found: dict[str, Any] = next(j for stage in detail["stages"] for j in stage["jobs"] if j["name"] == name)
    return found


async def vote(world: World, gate: str, user: str | None, verb: str = "approve") -> tuple[int, dict[str, Any]]:
    body = {} if user is None else {"user": user, "comment": "fine"}
    answer = await world.http.post(f"/api/v1/job_runs/{gate}/{verb}", json=body)
    return answer.status_code, answer.json()


async def test_the_quorum_opens_the_gate(world: World) -> None:
    run_id, gate = await gated(world)
    assert await vote(world, gate, "ann") == (
        202,
        {
            "job_run_id": gate,
            "run_id": run_id,
            "stage_completed": False,
            "stage_status": "",
            "run_completed": False,
            "run_status": "",
            "pending_quorum": True,
            "approvals_now": 1,
            "approvals_required": 2,
        },
    )
    status, again = await vote(world, gate, "ann")
    assert (status, again["approvals_now"]) == (202, 1), "the same person counts once"
    status, done = await vote(world, gate, "bo")
    assert (status, done["stage_completed"], done["stage_status"], done["pending_quorum"]) == (
        202,
        True,
        "success",
        False,
    )
    assert (await vote(world, gate, "cy")) == (409, {"error": "gate already decided"})
    shown = await job_of(world, run_id, "g")
    assert (shown["status"], shown["decision"], shown["decided_by"]) == ("success", "approved", "bo")


async def test_a_rejection_ends_the_run(world: World) -> None:
    run_id, gate = await gated(world)
    status, done = await vote(world, gate, "cy", "reject")
    assert (status, done["run_completed"], done["run_status"]) == (202, True, "failed")
    assert (await job_of(world, run_id, "s"))["status"] == "canceled"


async def test_strangers_and_the_nameless_are_refused(world: World) -> None:
    _, gate = await gated(world)
    assert await vote(world, gate, "eve") == (403, {"error": "user not in approvers list"})
    assert (await vote(world, gate, None))[0] == 403


async def test_without_an_allow_list_a_quorum_needs_names(world: World) -> None:
    anybody = GATED.replace('"approvers": ["ann", "bo", "cy"], ', "")
    applied = await world.apply(files={"ci.yaml": anybody})
    run_id = await world.trigger(applied["pipelines"][0]["pipeline_id"])
    gate = (await job_of(world, run_id, "g"))["id"]
    status, refused = await vote(world, gate, None)
    assert (status, refused["error"]) == (422, "this gate needs 2 approvals: say who you are")
    assert (await vote(world, gate, "one"))[0] == 202
    assert (await vote(world, gate, "two"))[1]["pending_quorum"] is False


@pytest.mark.parametrize("verb", ["approve", "reject", "rerun", "cancel"])
async def test_unknown_and_malformed_ids(world: World, verb: str) -> None:
    nobody = "00000000-0000-4000-8000-000000000000"
    unknown = await world.http.post(f"/api/v1/job_runs/{nobody}/{verb}")
    assert unknown.status_code == 404
    assert unknown.json()["error"] in ("approval gate not found", "job_run not found")
    bad = await world.http.post(f"/api/v1/job_runs/x/{verb}")
    assert (bad.status_code, bad.json()) == (400, {"error": "invalid job_run id"})


async def test_a_plain_job_is_no_gate_and_a_gate_no_plain_job(world: World) -> None:
    run_id, gate = await gated(world)
    plain = (await job_of(world, run_id, "s"))["id"]
    assert await vote(world, plain, "ann") == (404, {"error": "approval gate not found"})
    answer = await world.http.post(f"/api/v1/job_runs/{gate}/rerun")
    assert answer.status_code == 409
    assert "approve or reject it instead" in answer.json()["error"]
    active = await world.http.post(f"/api/v1/job_runs/{plain}/rerun")
    assert (active.status_code, active.json()) == (409, {"error": "job is still active — cancel first"})


async def test_a_finished_job_runs_again(world: World) -> None:
    run_id, gate = await gated(world)
    await vote(world, gate, "cy", "reject")
    job = (await job_of(world, run_id, "s"))["id"]
    answer = await world.http.post(f"/api/v1/job_runs/{job}/rerun", json={"triggered_by": "me"})
    assert (answer.status_code, answer.json()) == (202, {"job_run_id": job, "run_id": run_id, "attempt": 0})
    assert (await job_of(world, run_id, "s"))["status"] == "queued"


async def test_a_run_without_revisions_cannot_be_replayed_and_an_active_one_not_yet(world: World) -> None:
    run_id, gate = await gated(world)
    active = await world.http.post(f"/api/v1/runs/{run_id}/rerun")
    assert active.status_code == 409
    await vote(world, gate, "cy", "reject")
    gone = await world.http.post(f"/api/v1/runs/{run_id}/rerun")
    assert (gone.status_code, gone.json()["error"]) == (
        422,
        "cannot replay this run: source revision is no longer available",
    )
    unknown = await world.http.post("/api/v1/runs/00000000-0000-4000-8000-000000000000/rerun")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "run not found"})


async def test_a_run_is_replayed_with_all_its_revisions(world: World) -> None:
    run_id, gate = await gated(world)
    material = await world.db.fetchval("SELECT id FROM materials")
    revisions = {str(material): {"revision": "aaa", "branch": "main"}, "m2": {"revision": "bbb", "branch": ""}}
    came = {"material_id": "another", "modification_id": 0, "pr_title": "kept"}
    await world.db.execute("UPDATE runs SET revisions = $1, cause_detail = $2, cause = 'webhook'", revisions, came)
    await vote(world, gate, "cy", "reject")
    gone = await world.http.post(f"/api/v1/runs/{run_id}/rerun")
    assert (gone.status_code, gone.json()["error"]) == (
        422,
        "cannot replay this run: source revision is no longer available",
    )
    modification = await world.db.fetchval(
        "INSERT INTO modifications (material_id, revision, branch, detected_at)"
        " VALUES ($1, 'aaa', 'main', $2) RETURNING id",
        material,
        world.now,
    )
    answer = await world.http.post(f"/api/v1/runs/{run_id}/rerun", json={"triggered_by": "ann"})
    made = answer.json()
    assert (answer.status_code, made["counter"], made["rerun_of"]) == (202, 2, run_id)
    assert made["id"] == made["run_id"]
    detail = (await world.http.get(f"/api/v1/runs/{made['id']}")).json()
    assert (detail["revisions"], detail["cause"], detail["triggered_by"]) == (revisions, "webhook", "ann")
    assert detail["cause_detail"] == {
        "pr_title": "kept",
        "provider": "api",
        "delivery": f"rerun-{run_id}",
        "rerun_of": run_id,
        "material_id": str(material),
        "modification_id": modification,
    }


async def test_whatever_waits_says_why(world: World) -> None:
    run_id, gate = await gated(world)
    detail = (await world.http.get(f"/api/v1/runs/{run_id}")).json()
    reason = {"code": "gate", "text": "waits for 2 more approvals by ann, bo, cy", "detail": "2"}
    assert detail["waiting"] == reason
    assert (await job_of(world, run_id, "g"))["waiting"] == reason
    later = {"code": "stage", "text": "waits for the stage ok", "detail": "ok"}
    assert (await job_of(world, run_id, "s"))["waiting"] == later
    await vote(world, gate, "ann")
    await vote(world, gate, "bo")
    assert (await job_of(world, run_id, "s"))["waiting"] == {"code": "no_agent", "text": "no agent is connected"}
    await vote(world, gate, "cy", "reject")
    await world.http.post(f"/api/v1/runs/{run_id}/cancel")
    assert "waiting" not in (await world.http.get(f"/api/v1/runs/{run_id}")).json()
