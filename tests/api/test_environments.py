"""Freezing environments over HTTP, and what the detail of a run says of it (spec-execution 10, contract-runs 3.3)."""

from __future__ import annotations

from typing import Any

import pytest

from gocdnext.auth import bearer
from gocdnext.auth.identity import Subject
from gocdnext.auth.roles import Role
from tests.api.test_conventions import error
from tests.api.test_runs import get
from tests.api.world import TOKEN, World, pipeline

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


async def test_viewers_cannot_freeze(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Subject(name="somebody", role=Role.VIEWER, provider="test")
    monkeypatch.setattr(bearer, "subject_of", lambda header, token: caller)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for method in ("PUT", "DELETE"):
        assert error(await guarded.http.request(method, FREEZE, headers=headers), 403) == "forbidden"
