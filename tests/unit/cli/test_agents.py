"""`agents`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

ID = "a9e10000-0000-4000-8000-000000000001"
AGENT = {
    "id": ID,
    "name": "runner",
    "tags": ["gpu"],
    "capacity": 4,
    "status": "disabled",
    "health_state": "offline",
    "registered_at": "2026-01-10T07:00:00Z",
    "running_jobs": 1,
}
JOB = {
    "job_name": "unit",
    "job_status": "success",
    "run_counter": 7,
    "pipeline_name": "ci",
    "project_slug": "billing",
    "started_at": "2026-01-10T07:00:00Z",
    "finished_at": "2026-01-10T07:00:05Z",
}


def test_list_and_show(api: Any, call: Callable[..., Any]) -> None:
    api.routes["GET /api/v1/agents"] = {"agents": [AGENT]}
    api.routes[f"GET /api/v1/agents/{ID}"] = {"agent": AGENT, "jobs": [JOB]}
    line = call("agents", "list").out
    assert line.split("\t")[:3] == ["runner", "disabled", "1/4"]
    assert "billing/ci#7\tunit\tsuccess\t" in call("agents", "show", "runner").out
    assert orjson.loads(call("agents", "show", ID, "--json").out)["jobs"] == [JOB]
    assert call("agents", "show", "nobody").code == 1


def test_disable_and_enable(api: Any, call: Callable[..., Any], answer: Any) -> None:
    api.routes["GET /api/v1/agents"] = {"agents": [AGENT]}
    for verb in ("disable", "enable"):
        api.routes[f"POST /api/v1/agents/{ID}/{verb}"] = answer(204)
        assert call("agents", verb, "runner").out == f"{verb}d runner\n"


def test_token_of_a_new_and_of_a_known_agent(api: Any, call: Callable[..., Any]) -> None:
    api.routes["GET /api/v1/agents"] = {"agents": [AGENT]}
    api.routes["POST /api/v1/agents"] = {"id": ID, "token": "fresh"}
    api.routes[f"POST /api/v1/agents/{ID}/token"] = {"id": ID, "token": "changed"}
    assert call("agents", "token", "runner").out == "changed\n"
    assert call("agents", "token", "another").out == "fresh\n"
    assert orjson.loads(api.seen[-1].body) == {"name": "another"}
