"""`gocdnext admin auth-providers`: what it asks the server, and what it tells."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PATH = "/api/v1/admin/auth/providers"
SSO = {
    "id": "f1f1",
    "name": "acme-sso",
    "kind": "oidc",
    "display_name": "Acme \x1b[2JSSO",
    "client_id": "gocd",
    "issuer": "https://sso.acme.example",
    "enabled": True,
    "created_at": "2026-02-01T00:00:00Z",
    "updated_at": "2026-02-01T00:00:00Z",
}


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    return str(path)


def listed(api: Any, *providers: dict[str, Any], **more: Any) -> None:
    api.routes[f"GET {PATH}"] = {"enabled": True, "providers": list(providers), "env_only": ["github"], **more}


def test_list(api: Any, call: Callable[..., Any]) -> None:
    listed(api, SSO, {**SSO, "name": "old", "enabled": False}, problems={"acme-sso": "it is away"})
    done = call("admin", "auth-providers", "list")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "acme-sso\toidc\tfailing\thttps://sso.acme.example\tgocd\tAcme SSO",
        "old\toidc\toff\thttps://sso.acme.example\tgocd\tAcme SSO",
        "github\t-\ton\tenvironment\t-\t-",
    ]
    assert done.err == "warning: acme-sso cannot be used: it is away\n"
    assert json.loads(call("admin", "auth-providers", "list", "--json").out)["env_only"] == ["github"]


def test_a_new_one(api: Any, call: Callable[..., Any], secret_file: str) -> None:
    listed(api)
    api.routes[f"POST {PATH}"] = {"provider": SSO, "reload_warning": "it is away"}
    words = ("admin", "auth-providers", "set", "acme-sso", "--kind", "oidc", "--issuer", "https://sso.acme.example")
    assert call(*words).code == 2
    done = call(*words, "--client-id", "gocd", "--from-file", secret_file)
    assert (done.code, done.out) == (0, "provider made: acme-sso\n")
    assert done.err == "warning: acme-sso cannot be used: it is away\n"
    assert json.loads(api.seen[-1].body) == {
        "name": "acme-sso",
        "kind": "oidc",
        "client_id": "gocd",
        "client_secret": "s3cret",
        "issuer": "https://sso.acme.example",
        "adopt_accounts": False,
    }


def test_a_change_keeps_what_is_not_said(
    api: Any, call: Callable[..., Any], secret_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    listed(api, SSO)
    api.routes[f"POST {PATH}"] = {"provider": SSO}
    assert call("admin", "auth-providers", "set", "acme-sso", "--disable").out == "provider changed: acme-sso\n"
    said = json.loads(api.seen[-1].body)
    assert (said["enabled"], said["client_id"], said["issuer"]) == (False, "gocd", "https://sso.acme.example")
    assert "client_secret" not in said
    # Where the secret would go to another place, it is asked for.
    moved = ("admin", "auth-providers", "set", "acme-sso", "--issuer", "https://new.example", "--adopt-accounts")
    assert call(*moved).code == 1
    assert call(*moved, "--from-file", secret_file).code == 0
    said = json.loads(api.seen[-1].body)
    assert (said["client_secret"], said["adopt_accounts"]) == ("s3cret", True)


def test_delete_and_reload(api: Any, call: Callable[..., Any]) -> None:
    listed(api, SSO)
    api.routes[f"DELETE {PATH}/f1f1"] = {}
    api.routes[f"POST {PATH}/reload"] = {"active": ["github"], "problems": {"acme-sso": "away"}}
    assert call("admin", "auth-providers", "delete", "acme-sso").out == "provider deleted: acme-sso\n"
    done = call("admin", "auth-providers", "delete", "github")
    assert done.code == 1
    assert "no provider github in the database" in done.err
    done = call("admin", "auth-providers", "reload")
    assert (done.out, done.err) == ("github\n", "warning: acme-sso cannot be used: away\n")
