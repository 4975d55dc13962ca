"""`projects sync`, `projects pr-head-config`, `apply --from-repository`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SYNCED = {
    "project_id": "p1",
    "project_created": False,
    "pipelines": [{"name": "ci", "pipeline_id": "x", "created": False, "materials_added": 0, "materials_removed": 0}],
    "pipelines_removed": ["old"],
    "materials_polled": 2,
    "runs": ["r1"],
    "revision": "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d",
    "warnings": ["careful"],
}


def test_sync(api: Any, call: Any) -> None:
    api.routes["POST /api/v1/projects/shop/sync"] = SYNCED
    outcome = call("projects", "sync", "shop")
    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        "project updated p1",
        "  pipeline updated ci (materials: +0 -0)",
        "  pipeline removed old",
        "  configuration of commit 7fd1a60b01f91b314f59955a4e4d4e80d8edf11d",
        "  2 git materials looked at, 1 runs started",
        "  run r1",
    ]
    assert outcome.err == "warning: careful\n"
    assert json.loads(call("projects", "sync", "shop", "--json").out) == SYNCED


def test_a_repository_that_cannot_be_asked_ends_a_sync_with_1(api: Any, call: Any) -> None:
    api.routes["POST /api/v1/projects/shop/sync"] = {**SYNCED, "errors": ["https://x/y: no\x1b[31m answer"]}
    outcome = call("projects", "sync", "shop")
    assert outcome.code == 1
    assert "error: https://x/y: no" in outcome.err
    assert "\x1b" not in outcome.err


def test_a_broken_configuration_is_told(api: Any, call: Any, answer: Any) -> None:
    body = b'{"error":"parse remote .gocdnext/: ci.yaml:1:7: not valid YAML"}'
    api.routes["POST /api/v1/projects/shop/sync"] = answer(422, [body], {"Content-Type": "application/json"})
    outcome = call("projects", "sync", "shop")
    assert outcome.code == 1
    assert "parse remote .gocdnext/: ci.yaml:1:7" in outcome.err


@pytest.mark.parametrize(("word", "enabled"), [("on", True), ("off", False), (None, True)])
def test_pr_head_config(api: Any, call: Any, word: str | None, enabled: bool) -> None:
    verb = "GET" if word is None else "PUT"
    api.routes[f"{verb} /api/v1/projects/shop/pr-head-config"] = {"enabled": enabled}
    outcome = call("projects", "pr-head-config", "shop", *([word] if word else []))
    assert outcome.code == 0
    assert ("the pull request's own commit" in outcome.out) is enabled
    assert api.seen[0].body == (
        b"" if word is None else json.dumps({"enabled": enabled}, separators=(",", ":")).encode()
    )


def test_apply_from_the_repository_sends_no_files(api: Any, call: Any, tmp_path: Path) -> None:
    api.routes["POST /api/v1/projects/apply"] = {**SYNCED, "warnings": []}
    source = ["--scm-url", "https://x/y", "--scm-provider", "github"]
    assert call("apply", str(tmp_path), "--slug", "shop", "--from-repository", *source).code == 0
    assert json.loads(api.seen[0].body)["files"] == []
    outcome = call("apply", str(tmp_path), "--slug", "shop", "--from-repository")
    assert outcome.code == 2
    assert "--from-repository needs --scm-url" in outcome.err


def test_show_says_what_is_broken(api: Any, call: Any) -> None:
    project = {
        "slug": "shop",
        "name": "shop",
        "status": "",
        "updated_at": "2026-01-01T00:00:00Z",
        "config_path": ".gocdnext",
    }
    source = {
        "provider": "github",
        "url": "https://x/y",
        "default_branch": "main",
        "last_synced_at": "2026-01-01T00:00:00Z",
        "last_synced_revision": "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d",
        "sync_error": "parse remote .gocdnext/: ci.yaml:1:7: not valid YAML",
    }
    api.routes["GET /api/v1/projects/shop"] = {"project": project, "scm_source": source, "pipelines": [], "runs": []}
    outcome = call("projects", "show", "shop")
    assert "from commit 7fd1a60b01f9" in outcome.out
    assert "not valid YAML" in outcome.out
