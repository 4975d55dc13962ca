"""What the audit trail says of things that no person did (contract-runs 11)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from gocdnext.runs.creation import NewRun
from tests.api.test_gates import job_of
from tests.api.world import World

APPROVAL = {"required": 1, "quorum_by_label": {"risky": 3, "area/db": 3, "hotfix": 2}}
LANE = json.dumps(
    {
        "name": "lane",
        "supersede": "pipeline",
        "materials": [{"manual": True}],
        "stages": ["ok", "ship"],
        "jobs": {
            "gate": {"stage": "ok", "approval": APPROVAL, "timeout": "10m"},
            "ship": {"stage": "ship", "script": ["x"], "environment": "production"},
        },
    }
)


async def told(world: World, action: str) -> list[dict[str, Any]]:
    """Target and metadata of the events of one action, oldest first."""
    rows = await world.db.fetch("SELECT * FROM audit_events WHERE action = $1 ORDER BY metadata ->> 'counter'", action)
    assert all(row["actor_id"] is None and row["actor_email"] == "" for row in rows)
    return [{"type": row["target_type"], "id": row["target_id"], **row["metadata"]} for row in rows]


async def test_a_label_that_changes_a_quorum_is_told(world: World) -> None:
    made = await world.apply(files={"lane.yaml": LANE})
    pipeline_id = UUID(made["pipelines"][0]["pipeline_id"])
    await world.trigger(str(pipeline_id))  # remembered now: the next one would be made without a transaction
    assert await told(world, "approval.quorum_overridden") == []
    new = NewRun(pipeline_id, "pull_request", "ines", {}, {"pr_labels": ["hotfix", "risky", "area/db"]}, "pr:7")
    run_id = str((await world.runs.create(new)).run_id)
    gate = await job_of(world, run_id, "gate")
    assert (gate["approval_required"], gate["approval_quorum_label"]) == (3, "area/db")
    assert await told(world, "approval.quorum_overridden") == [
        {
            "type": "job_run",
            "id": gate["id"],
            "run_id": run_id,
            "job_name": "gate",
            "matrix_key": "",
            "base_required": 1,
            "effective_required": 3,
            "label": "area/db",
            "cause": "pull_request",
        }
    ]


async def test_a_superseded_run_is_told_once(world: World) -> None:
    made = await world.apply(files={"lane.yaml": LANE})
    pipeline_id = made["pipelines"][0]["pipeline_id"]
    first, second, third = [await world.trigger(pipeline_id) for _ in range(3)]
    assert await told(world, "run.superseded") == [
        {"type": "run", "id": first, "counter": 1, "superseded_by": second, "superseded_by_counter": 2},
        {"type": "run", "id": second, "counter": 2, "superseded_by": third, "superseded_by_counter": 3},
    ]


async def test_a_gate_that_nobody_decided_is_told_once(world: World) -> None:
    made = await world.apply(files={"lane.yaml": LANE})
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    gate = (await job_of(world, run_id, "gate"))["id"]
    world.now += timedelta(minutes=12)
    for _ in range(2):
        await world.runs.expire_gates(None)
    assert await told(world, "approval.expired") == [
        {
            "type": "job_run",
            "id": gate,
            "run_id": run_id,
            "counter": 1,
            "job_name": "gate",
            "window_seconds": 600,
            "waited_seconds": 720,
        }
    ]
    assert (await world.http.get(f"/api/v1/runs/{run_id}")).json()["status"] == "canceled"
