"""`notifications`, `labels`, `caches`, `groups`, `scm-credentials`, `profiles`, `health`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
PROJECT = "/api/v1/projects/demo"
CHAT = {"on": "failure", "uses": "gocdnext/slack@v1", "with": {"channel": "builds"}, "secrets": ["HOOK"]}
GROUP = {"id": "e0e0", "name": "managers", "description": "may open prod", "member_count": 2}
PROFILE = {
    "id": "f1f1",
    "name": "big",
    "description": "",
    "engine": "kubernetes",
    "default_image": "debian:13",
    "tags": ["ssd"],
    "env": {"A": "1"},
    "secret_keys": ["TOKEN"],
    "secret_refs": {},
    "created_at": "2026-04-28T13:00:00Z",
    "updated_at": "2026-04-28T13:00:00Z",
}


def bodies(api: Any, method: str) -> list[Any]:
    return [json.loads(request.body) for request in api.seen if request.method == method and request.body]


def test_notifications(api: Any, call: Call) -> None:
    api.routes[f"GET {PROJECT}/notifications"] = {"notifications": [CHAT]}
    api.routes[f"PUT {PROJECT}/notifications"] = {}
    assert call("notifications", "list", "demo").out == "0\tfailure\tgocdnext/slack@v1\tchannel=builds\tHOOK\n"
    added = call(
        "notifications",
        "add",
        "demo",
        "--on",
        "success",
        "--uses",
        "acme/x",
        "--with",
        "a=b=c",
        "--with",
        "t=@/etc/passwd",
    )
    assert (added.code, added.out) == (0, "notification 1 of demo is sent on success\n")
    assert call("notifications", "rm", "demo", "0").out == "notification 0 of demo removed\n"
    new = {"on": "success", "uses": "acme/x", "with": {"a": "b=c", "t": "@/etc/passwd"}, "secrets": []}
    assert bodies(api, "PUT") == [{"notifications": [CHAT, new]}, {"notifications": []}]
    assert call("notifications", "rm", "demo", "7").code == 1
    assert call("notifications", "add", "demo", "--on", "success", "--uses", "x", "--with", "a").code == 2
    assert json.loads(call("notifications", "list", "demo", "--json").out) == {"notifications": [CHAT]}


def test_labels(api: Any, call: Call) -> None:
    kept = [{"key": "team", "value": "a"}, {"key": "team", "value": "b"}, {"key": "flat", "value": ""}]
    api.routes[f"GET {PROJECT}/labels"] = {"labels": kept}
    api.routes[f"PUT {PROJECT}/labels"] = {}
    assert call("labels", "list", "demo").out == "team\ta\nteam\tb\nflat\t-\n"
    assert call("labels", "add", "demo", "x:y:z", "@/etc/passwd").out == "demo: team:a, team:b, flat\n"
    call("labels", "rm", "demo", "team:a", "flat")
    call("labels", "rm", "demo", "team")
    call("labels", "set", "demo")
    assert bodies(api, "PUT") == [
        {"labels": [*kept, {"key": "x", "value": "y:z"}, {"key": "@/etc/passwd", "value": ""}]},
        {"labels": kept[1:2]},
        {"labels": kept[2:]},
        {"labels": []},
    ]
    assert call("labels", "rm", "demo", "nope").code == 1


def test_caches(api: Any, call: Call) -> None:
    one = {
        "id": "0f9a1234",
        "key": "npm",
        "size_bytes": 5,
        "status": "ready",
        "last_accessed_at": "2026-04-28T13:00:00Z",
    }
    api.routes[f"GET {PROJECT}/caches"] = {"caches": [one], "total_bytes": 5}
    api.routes[f"DELETE {PROJECT}/caches/0f9a1234"] = {}
    assert call("caches", "list", "demo").out.startswith("0f9a1234\tnpm\t5\tready\t")
    assert call("caches", "rm", "demo", "npm").out == "cache npm removed\n"
    assert call("caches", "rm", "demo", "0f9a").out == "cache npm removed\n"
    assert call("caches", "rm", "demo", "pip").code == 1


def test_groups(api: Any, call: Call) -> None:
    path = "/api/v1/admin/groups"
    api.routes[f"GET {path}"] = {"groups": [GROUP]}
    api.routes["GET /api/v1/admin/users"] = {"users": [{"id": "3d7c", "email": "rita@x", "provider": "local"}]}
    api.routes[f"POST {path}"] = GROUP
    for route in (
        f"PUT {path}/e0e0",
        f"DELETE {path}/e0e0",
        f"POST {path}/e0e0/members",
        f"DELETE {path}/e0e0/members/3d7c",
    ):
        api.routes[route] = {}
    api.routes[f"GET {path}/e0e0/members"] = {
        "members": [
            {"user_id": "3d7c", "email": "rita@x", "name": "", "role": "viewer", "added_at": "2026-04-28T13:00:00Z"}
        ]
    }
    assert call("groups", "list").out == "managers\t2\tmay open prod\te0e0\n"
    assert call("groups", "create", "managers").out == "group managers created\n"
    assert call("groups", "change", "managers", "--name", "bosses").out == "group bosses changed\n"
    assert call("groups", "members", "managers").out.startswith("rita@x\tviewer\t")
    assert call("groups", "add", "managers", "rita@x").out == "rita@x is in managers\n"
    assert call("groups", "remove", "e0e0", "3d7c").out == "rita@x is not in managers\n"
    assert call("groups", "delete", "managers").out == "group managers deleted\n"
    assert call("groups", "members", "nope").code == 1
    assert bodies(api, "PUT") == [{"name": "bosses", "description": "may open prod"}]


def test_credentials(api: Any, call: Call, tmp_path: Path) -> None:
    path = "/api/v1/admin/scm-credentials"
    kept = {
        "id": "d00d",
        "provider": "gitlab",
        "host": "git.x",
        "auth_ref_preview": "glpa…9f2c",
        "updated_at": "2026-04-28T13:00:00Z",
    }
    api.routes[f"GET {path}"] = {"credentials": [kept]}
    api.routes[f"POST {path}"] = kept
    api.routes[f"DELETE {path}/d00d"] = {}
    file = tmp_path / "token"
    file.write_text("glpat-value\n")
    done = call("scm-credentials", "set", "gitlab", "git.x", "--from-file", str(file))
    assert (done.code, done.out) == (0, "credential for gitlab at git.x kept\n")
    assert bodies(api, "POST")[0]["auth_ref"] == "glpat-value"
    assert call("scm-credentials", "list").out.startswith("gitlab\tgit.x\tglpa…9f2c\t-\t")
    assert call("scm-credentials", "rm", "git.x").out == "credential for gitlab at git.x removed\n"
    assert call("scm-credentials", "rm", "git.x", "--provider", "github").code == 1


def test_profiles(api: Any, call: Call, tmp_path: Path) -> None:
    path = "/api/v1/admin/runner-profiles"
    api.routes[f"GET {path}"] = {"profiles": [PROFILE]}
    api.routes[f"POST {path}"] = PROFILE
    api.routes[f"PUT {path}/f1f1"] = {}
    api.routes[f"DELETE {path}/f1f1"] = {}
    file = tmp_path / "profile.json"
    file.write_text(json.dumps({"max_cpu": "2", "id": "x"}))
    call("profiles", "create", "big", "--file", str(file), "--tag", "ssd", "--env", "A=1", "--image", "debian:13")
    assert bodies(api, "POST") == [
        {
            "engine": "kubernetes",
            "max_cpu": "2",
            "name": "big",
            "tags": ["ssd"],
            "env": {"A": "1"},
            "default_image": "debian:13",
        }
    ]
    assert call("profiles", "list").out == "big\tdebian:13\tssd\t-\tf1f1\n"
    assert json.loads(call("profiles", "show", "big").out) == PROFILE
    keep = "__GOCDNEXT_SECRET_PRESERVE__"
    call("profiles", "update", "big", "--env", "B=2")
    value = tmp_path / "value"
    value.write_text("{{secret:GLOBAL}}")
    call("profiles", "secret", "big", "NEW", "--from-file", str(value))
    call("profiles", "secret", "big", "TOKEN", "--rm")
    first, second, third = bodies(api, "PUT")
    assert (first["env"], first["secrets"], "id" in first) == ({"A": "1", "B": "2"}, {"TOKEN": keep}, False)
    assert second["secrets"] == {"TOKEN": keep, "NEW": "{{secret:GLOBAL}}"}
    assert third["secrets"] == {}
    assert call("profiles", "delete", "big").out == "profile big deleted\n"
    for wrong in (("show", "nope"), ("secret", "big", "NOPE", "--rm")):
        assert call("profiles", *wrong).code == 1
    file.write_text("[")
    assert call("profiles", "create", "big", "--file", str(file)).code == 1


@pytest.mark.parametrize("well", [True, False])
def test_health(api: Any, call: Call, well: bool) -> None:
    found = {
        "db_ok": well,
        "db_error": "" if well else "away",
        "agents_online": 3,
        "agents_stale": 0,
        "agents_offline": 1,
        "queued_runs": 2,
        "pending_jobs": 5,
        "success_rate_7d": 0.93,
        "checked_at": "2026-04-28T13:00:00Z",
        "scheduler_tick_lag_seconds": None,
        "scheduler_last_tick_at": None,
    }
    api.routes["GET /api/v1/admin/health"] = found
    done = call("health")
    assert done.code == (0 if well else 1)
    assert "3 online, 0 silent, 1 offline" in done.out
    assert json.loads(call("health", "--json").out) == found
