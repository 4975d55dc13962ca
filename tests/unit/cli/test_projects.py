"""`gocdnext projects` and `gocdnext dashboard`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Call = Callable[..., Any]
PROJECT = {
    "id": "6a0c0000-0000-4000-8000-000000000001",
    "slug": "billing",
    "name": "Billing\x1b[2J",
    "status": "failing",
    "pipeline_count": 1,
    "run_count": 41,
    "updated_at": "2026-04-28T12:00:00Z",
    "labels": [{"key": "team", "value": "payments"}],
}
PIPELINE = {
    "id": "1f0e0000-0000-4000-8000-000000000001",
    "name": "ci",
    "latest_run": {"counter": 41, "status": "failed", "started_at": "2026-04-28T11:58:01Z"},
    "metrics": {"runs_considered": 9, "success_rate": 2 / 3, "lead_time_p50_seconds": 84.2},
}


def test_list(api: Any, call: Call) -> None:
    api.routes["GET /api/v1/projects"] = {"projects": [PROJECT]}
    outcome = call("projects", "list", "--limit", "5")
    assert outcome.out == "billing\tfailing\t1\t41\t-\t-\tBilling\n"
    assert api.seen[-1].query == {"limit": ["5"], "offset": ["0"]}
    assert json.loads(call("projects", "list", "--json").out) == {"projects": [PROJECT]}
    assert api.seen[-1].query == {}


def test_show(api: Any, call: Call) -> None:
    source = {"provider": "gitlab", "url": "https://example.org/x", "default_branch": "main"}
    api.routes["GET /api/v1/projects/billing"] = {
        "project": PROJECT,
        "scm_source": source,
        "pipelines": [PIPELINE],
        "runs": [],
    }
    out = call("projects", "show", "billing").out
    assert "source   gitlab https://example.org/x (main)\n" in out
    assert "labels   team=payments\n" in out
    assert "\nci\tfailed\t#41\t" in out
    assert out.endswith(f"\t67% of 9\t1m24s\t{PIPELINE['id']}\n")
    outcome = call("projects", "show", "nobody")
    assert (outcome.code, "404" in outcome.err) == (1, True)


def test_delete_asks_and_never_in_a_pipe(api: Any, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {
        "slug": "billing",
        "pipelines_deleted": 2,
        "runs_deleted": 41,
        "secrets_deleted": 3,
        "scm_sources_deleted": 1,
    }
    api.routes["DELETE /api/v1/projects/billing"] = counts
    outcome = call("projects", "delete", "billing")
    assert (outcome.code, "--yes" in outcome.err, api.seen) == (2, True, [])
    assert call("projects", "delete", "billing", "--yes").out == "deleted billing: 2 pipelines, 41 runs, 3 secrets\n"
    assert json.loads(call("projects", "delete", "billing", "--yes", "--json").out) == counts
    api.seen.clear()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_, **__: "biling")
    assert (call("projects", "delete", "billing").code, api.seen) == (2, [])
    monkeypatch.setattr("click.prompt", lambda *_, **__: "billing")
    assert (call("projects", "delete", "billing").code, len(api.seen)) == (0, 1)


def test_delete_that_is_not_allowed(api: Any, call: Call, answer: Any) -> None:
    api.routes["DELETE /api/v1/projects/billing"] = answer(403, [b'{"error":"forbidden"}'])
    assert call("projects", "delete", "billing", "--yes").code == 3


def test_run_all(api: Any, call: Call) -> None:
    results = [{"pipeline_id": PIPELINE["id"], "run_id": "d1ce"}]
    api.routes["GET /api/v1/projects/billing"] = {"pipelines": [PIPELINE], "runs": []}
    api.routes["POST /api/v1/projects/billing/run-all"] = {"results": results, "run_ids": ["d1ce"]}
    assert (call("projects", "run-all", "billing").out) == "run billing/ci d1ce\n"
    results.append({"pipeline_id": "2a2a", "error": "no modifications"})
    outcome = call("projects", "run-all", "billing")
    assert (outcome.code, outcome.err) == (1, "error: billing/2a2a: no modifications\n")
    outcome = call("projects", "run-all", "billing", "--json")
    assert (outcome.code, json.loads(outcome.out)["results"]) == (1, results)


def test_dashboard(api: Any, call: Call) -> None:
    figures = {"runs_today": 12, "successes_7d": 40, "failures_7d": 5, "canceled_7d": 3, "success_rate_7d": 0.889}
    figures |= {"p50_seconds_7d": 97.4, "queued_runs": 1, "pending_jobs": 6}
    api.routes["GET /api/v1/dashboard/metrics"] = figures
    out = call("dashboard").out
    assert "last 7 days  40 success, 5 failed, 3 canceled (89% success)\n" in out
    assert "typically    1m37s\n" in out
    assert json.loads(call("dashboard", "--json").out) == figures
