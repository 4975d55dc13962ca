"""`gocdnext vsm`: the value stream as a tree."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Call = Callable[..., Any]


def node(name: str, **more: Any) -> dict[str, Any]:
    return {"pipeline_id": name, "name": name, "definition_version": 1, "has_services": False, **more}


def edge(start: str, end: str, **more: Any) -> dict[str, Any]:
    return {"from_pipeline": start, "to_pipeline": end, "stage": "build", **more}


def stream(nodes: list[dict[str, Any]], edges: list[dict[str, Any]]) -> dict[str, Any]:
    return {"project_slug": "billing", "project_name": "Billing", "nodes": nodes, "edges": edges}


def test_a_tree_with_figures(api: Any, call: Call) -> None:
    run = {
        "counter": 41,
        "status": "failed",
        "started_at": "2026-04-28T11:58:01Z",
        "finished_at": "2026-04-28T11:59:30Z",
    }
    metrics = {"window_days": 7, "runs_considered": 12, "success_rate": 0.75, "lead_time_p50_seconds": 84.2}
    repository = {"url": "https://example.org/" + "x" * 90, "branch": "main"}
    nodes = [
        node("ci", latest_run=run, metrics=metrics, has_services=True, git_materials=[repository]),
        node("deploy"),
        node("docs"),
        node("smoke"),
    ]
    edges = [
        edge("ci", "deploy", wait_samples=6, wait_time_p50_seconds=12.5),
        edge("ci", "docs"),
        edge("deploy", "smoke"),
        edge("docs", "smoke"),
    ]
    api.routes["GET /api/v1/projects/billing/vsm"] = stream(nodes, edges)
    outcome = call("vsm", "billing")
    assert outcome.code == 0
    assert [line.rstrip() for line in outcome.out.splitlines()] == [
        "Billing (billing)",
        "└── ci  #41 failed 1m29s  75% of 12 in 7 days  typically 1m24s  services  "
        f"from https://example.org/{'x' * 90} (main)",
        "    ├── after build: deploy  never run  waits 12.5s",
        "    │   └── after build: smoke  never run",
        "    └── after build: docs  never run",
        "        └── after build: smoke  never run  (as above)",
    ]
    assert json.loads(call("vsm", "billing", "--json").out) == stream(nodes, edges)


def test_circles_strangers_and_names_that_are_no_names(api: Any, call: Call) -> None:
    nodes = [node("a"), node("b"), node("[red]x\x1b[2J")]
    edges = [edge("a", "b", stage=""), edge("b", "a", stage=""), edge("gone", "a", stage="")]
    api.routes["GET /api/v1/projects/billing/vsm"] = stream(nodes, edges)
    out = call("vsm", "billing").out
    assert "\x1b" not in out
    assert [line.rstrip() for line in out.splitlines()] == [
        "Billing (billing)",
        "├── [red]x  never run",
        "└── gone  not a pipeline of this project",
        "    └── a  never run",
        "        └── b  never run",
        "            └── a  never run  (as above)",
    ]


def test_nothing_there(api: Any, call: Call) -> None:
    api.routes["GET /api/v1/projects/billing/vsm"] = stream([], [])
    assert "no pipelines yet" in call("vsm", "billing").out
    outcome = call("vsm", "nobody")
    assert (outcome.code, "404" in outcome.err) == (1, True)
