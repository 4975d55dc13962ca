"""`environments`: what is deployed where, frozen and made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Call = Callable[..., Any]
PATH = "/api/v1/projects/demo/environments"
DEPLOYMENT = {
    "id": "d1",
    "version": "1.2",
    "status": "success",
    "is_rollback": True,
    "attempt": 0,
    "created_at": "2026-04-28T13:00:00Z",
    "pipeline_name": "ci",
    "counter": 7,
    "deployed_by": "ines",
}


def test_list(api: Any, call: Call) -> None:
    freeze = {"reason": "release week", "frozen_by": "ines", "frozen_at": "2026-04-28T13:00:00Z"}
    current = {"deployment_id": "d1", "version": "1.2", "since": "2026-04-28T13:00:00Z"}
    api.routes[f"GET {PATH}"] = {
        "environments": [
            {"name": "production", "total_deploys": 3, "current": current, "freeze": freeze},
            {"name": "test", "total_deploys": 0},
        ]
    }
    first, second = call("environments", "list", "--slug", "demo").out.splitlines()
    assert first.split("\t")[:2] == ["production", "1.2"]
    assert first.endswith("frozen by ines: release week")
    assert second.split("\t")[:3] == ["test", "-", "-"]
    api.routes[f"GET {PATH}"] = {"environments": []}
    assert call("environments", "list", "--slug", "demo").out == "(nothing was deployed yet)\n"


def test_show(api: Any, call: Call) -> None:
    api.routes[f"GET {PATH}/production/deployments"] = {"deployments": [DEPLOYMENT], "limit": 20, "offset": 0}
    cells = call("environments", "show", "--slug", "demo", "production").out.rstrip("\n").split("\t")
    assert [*cells[:3], *cells[4:]] == ["d1", "1.2", "success", "ci#7", "ines", "rollback"]


def test_freeze_and_unfreeze(api: Any, call: Call, answer: Any) -> None:
    api.routes[f"PUT {PATH}/production/freeze"] = answer(204)
    api.routes[f"DELETE {PATH}/production/freeze"] = answer(204)
    done = call("environments", "freeze", "--slug", "demo", "production", "--reason", "release week")
    assert done.out == "frozen production\n"
    assert json.loads(api.seen[0].body) == {"reason": "release week"}
    assert call("environments", "unfreeze", "--slug", "demo", "production").out == "unfrozen production\n"
    assert call("environments", "freeze", "--slug", "demo", "production").code == 2


def test_rollback(api: Any, call: Call) -> None:
    made = {"job_run_id": "j", "run_id": "r", "attempt": 2, "is_rollback": True}
    api.routes[f"POST {PATH}/production/rollback"] = made
    done = call("environments", "rollback", "--slug", "demo", "production", "d1")
    assert done.out == "rolling back production: run r, attempt 2\n"
    assert json.loads(api.seen[0].body) == {"deployment_id": "d1"}
    assert json.loads(call("environments", "rollback", "--slug", "demo", "production", "--json").out) == made
