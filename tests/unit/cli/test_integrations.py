"""`integrations`, `projects check-reporting`, `projects rotate-webhook-secret`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.cli.conftest import Answer

Call = Callable[..., Any]
CHECKS = "/api/v1/projects/demo/check-reporting"
ROTATE = "POST /api/v1/projects/demo/scm-sources/rotate-webhook-secret"
VCS = "/api/v1/admin/integrations/vcs"
ID = "b2b20000-0000-4000-8000-000000000001"


def test_how_runs_are_told(api: Any, call: Call) -> None:
    report = {
        "run_id": ID, "pipeline_name": "ci", "counter": 7, "status": "failed", "attempts": 12,
        "error": "git.example: answered 502\x1b[31m", "at": "2026-04-28T13:00:00Z",
    }  # fmt: skip
    api.routes[f"GET {CHECKS}"] = {"mode": "both", "default_mode": "both", "given_up": [report]}
    first, second = call("projects", "check-reporting", "demo").out.splitlines()
    assert first == "runs of demo are told as both"
    assert "ci #7 failed: git.example: answered 502" in second
    assert "\x1b" not in second
    api.routes[f"PUT {CHECKS}"] = {"mode": "check_run", "default_mode": "both"}
    done = call("projects", "check-reporting", "demo", "check_run", "--json")
    assert json.loads(done.out)["mode"] == "check_run"
    assert json.loads(api.seen[-1].body) == {"mode": "check_run"}
    assert call("projects", "check-reporting", "demo", "all").code == 2


def test_a_secret_is_rotated(api: Any, call: Call) -> None:
    hook = {"scm_source_url": "git.example/a/b", "provider": "gitlab", "status": "failed", "error": "no credential"}
    api.routes[ROTATE] = {"scm_source_id": ID, "generated_webhook_secret": "5d0c", "webhook": hook}
    done = call("projects", "rotate-webhook-secret", "demo")
    assert done.out == "5d0c\n"
    assert "hook at gitlab: failed: no credential" in done.err
    api.routes[ROTATE] = {"scm_source_id": ID, "generated_webhook_secret": "5d0c"}
    assert "set it at the provider too" in call("projects", "rotate-webhook-secret", "demo").err
    assert json.loads(call("projects", "rotate-webhook-secret", "demo", "--json").out)["scm_source_id"] == ID


def test_what_works_where(api: Any, call: Call) -> None:
    one = {"auto_register_on": True, "webhook_endpoint": "https://ci/api/webhooks/x", "required_scope": "api"}
    github = {"app_configured": False, "checks_reporter_on": False, "auto_register_on": False, "webhook_endpoint": ""}
    api.routes["GET /api/v1/admin/integrations"] = {"github": github, "gitlab": one, "bitbucket": one}
    out = call("integrations", "show").out
    assert "github" in out
    assert "https://ci/api/webhooks/x" in out


def test_apps(api: Any, call: Call, tmp_path: Path) -> None:
    kept = {"id": ID, "name": "acme", "app_id": 7, "enabled": True}
    api.routes[f"GET {VCS}"] = {
        "integrations": [kept, kept | {"name": "off", "enabled": False}, kept | {"name": "bad"}],
        "active": [{"name": "acme", "source": "db", "app_id": 7}, {"name": "env", "source": "env", "app_id": 8}],
    }
    words = [line.split() for line in call("integrations", "list").out.splitlines()]
    assert ["acme", "7", "in", "use", ID] in words
    assert ["bad", "7", "not", "usable", ID] in words
    assert ["env", "8", "in", "use", "-"] in words
    key = tmp_path / "key.pem"
    key.write_text("PEM")
    api.routes[f"POST {VCS}"] = Answer(201, [json.dumps({"integration": kept, "reload_warning": "no key"}).encode()])
    done = call("integrations", "set", "acme", "--app-id", "7", "--key-file", str(key))
    assert (done.code, done.out) == (0, f"integration acme {ID}\n")
    assert "not in use: no key" in done.err
    sent = json.loads(api.seen[-1].body)
    assert (sent["private_key"], sent["app_id"], sent["enabled"], sent["webhook_secret"]) == ("PEM", 7, True, "")
    key.write_bytes(b"\xff\xfe")
    assert call("integrations", "set", "acme", "--app-id", "7", "--key-file", str(key)).code == 2
    key.write_bytes(b"x" * 70_000)
    assert call("integrations", "set", "acme", "--app-id", "7", "--key-file", str(key)).code == 2
    api.routes[f"DELETE {VCS}/{ID}"] = Answer(204, [])
    assert call("integrations", "delete", ID).out == f"deleted {ID}\n"
    api.routes[f"POST {VCS}/reload"] = {"active": [{"name": "acme", "source": "db", "app_id": 7}]}
    assert "db 7" in call("integrations", "reload").out
