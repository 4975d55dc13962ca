"""The hook of a bound repository is registered at its provider, and its secret is changed (contract-admin 6.9, 9.2, 9.3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gocdnext.forges.apps import Apps, reseal_keys, reseal_secrets
from gocdnext.secrets.sealing import Keyring
from tests.api.hooks import SECRET, bind, push, send, waits
from tests.api.test_conventions import error
from tests.api.test_reporting import BASE, Stage, staged
from tests.api.world import World
from tests.counterpart import Told, as_json
from tests.forge import APP_ID, TOKEN, pem
from tests.secrets_room import KEY

ROTATE = "/api/v1/projects/shop/scm-sources/rotate-webhook-secret"


@pytest.fixture
async def stage(database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(database_url, tmp_path) as stage:
        yield stage


async def bound(stage: Stage, provider: str = "gitlab", **source: str) -> dict[str, Any]:
    """Binds without a secret of the caller's, and gives the answer."""
    said = {"provider": provider, "url": stage.url, "default_branch": "master", "auth_ref": TOKEN} | source
    return await stage.world.apply("shop", {"p.yaml": waits(url=stage.url)}, scm_source=said)


async def test_the_hook_of_a_new_source(stage: Stage) -> None:
    """And the secret that it was given opens the door."""
    made = await bound(stage, "github")
    shown = f"127.0.0.1:{stage.there.port}/acme/shop"
    assert made["webhooks"] == [
        {"scm_source_url": shown, "provider": "github", "status": "registered", "hook_id": "812"}
    ]
    (hook,) = stage.forge.hooks
    assert (hook["name"], hook["active"], hook["events"]) == ("web", True, ["push", "pull_request"])
    assert hook["config"] == {
        "url": f"{BASE}/api/webhooks/github",
        "content_type": "json",
        "secret": made["scm_source"]["generated_webhook_secret"],
        "insecure_ssl": "0",
    }
    payload = push()
    payload["repository"]["clone_url"] = stage.url
    assert (await send(stage.world, "github", "push", payload, secret=hook["config"]["secret"])).status_code == 202


@pytest.mark.parametrize("provider", ["gitlab", "bitbucket"])
async def test_hooks_of_other_providers(stage: Stage, provider: str) -> None:
    made = await bound(stage, provider)
    (hook,) = stage.forge.hooks
    assert made["webhooks"][0]["status"] == "registered"
    assert hook["url"] == f"{BASE}/api/webhooks/{provider}"
    secret = made["scm_source"]["generated_webhook_secret"]
    if provider == "gitlab":
        assert hook["token"] == secret
        assert hook["push_events"]
        assert hook["tag_push_events"]
        assert hook["merge_requests_events"]
        assert hook["enable_ssl_verification"]
    else:
        assert hook["secret"] == secret
        assert hook["events"] == ["repo:push", "pullrequest:created", "pullrequest:updated"]
        assert made["webhooks"][0]["hook_id"] == "{b7a0c6e2-0000}"


async def test_it_is_registered_once_and_again_when_something_changed(stage: Stage) -> None:
    await bound(stage)
    calls = len(stage.forge.calls)
    (again,) = (await bound(stage))["webhooks"]
    assert (again["status"], again["hook_id"]) == ("already_exists", "812")
    assert len(stage.forge.calls) == calls, "nobody was asked"
    (changed,) = (await bound(stage, webhook_secret="another"))["webhooks"]
    assert changed["status"] == "updated"
    assert [hook["token"] for hook in stage.forge.hooks] == ["another"]


async def test_the_hook_that_points_here_is_found_on_any_page(stage: Stage) -> None:
    others = [{"id": n, "url": f"https://other.example/{n}"} for n in range(1, 140)]
    ours = {"id": 900, "url": f"{BASE}/api/webhooks/gitlab?x=1", "token": "old"}
    near = {"id": 901, "url": f"{BASE}/api/webhooks/gitlab-of-somebody-else", "token": "theirs"}
    stage.forge.hooks = [*others, near, ours]
    (hook,) = (await bound(stage, webhook_secret=SECRET))["webhooks"]
    assert (hook["status"], hook["hook_id"]) == ("updated", "900")
    assert ours["token"] == SECRET
    assert ours["url"] == f"{BASE}/api/webhooks/gitlab"
    assert near["token"] == "theirs"


TROUBLE = [
    (as_json({"message": "401 Unauthorized"}, 401), "the credential was refused"),
    (as_json({"message": "insufficient_scope"}, 403), "needs more rights"),
    (Told(302, headers={"Location": "http://169.254.169.254/"}), "answered 302"),
    (Told(200, b"<html>"), "without JSON"),
    (as_json({"hooks": 1}), "something else than a list"),
]


async def test_what_goes_wrong_is_said_and_hurts_nobody(stage: Stage) -> None:
    for told, words in TROUBLE:
        stage.forge.trouble = [told]
        made = await bound(stage)
        (hook,) = made["webhooks"]
        assert hook["status"] == "failed"
        assert words in hook["error"]
        assert TOKEN not in str(made)
    (later,) = (await bound(stage))["webhooks"]
    assert later["status"] == "registered", "the next apply tries again"


async def test_who_cannot_be_asked(stage: Stage) -> None:
    (hook,) = (await bound(stage, "manual"))["webhooks"]
    assert hook["status"] == "skipped_unsupported_provider"
    (hook,) = (await bound(stage, url=f"{stage.there.url}/too/deep/for/github", provider="github"))["webhooks"]
    assert (hook["status"], hook["error"]) == ("failed", "the address is not that of a repository at github")
    assert stage.forge.calls == []


async def test_without_a_credential(stage: Stage) -> None:
    source = {"provider": "gitlab", "url": stage.url}
    (hook,) = (await stage.world.apply("shop", scm_source=source))["webhooks"]
    assert hook["status"] == "failed"
    assert "no credential for 127.0.0.1" in hook["error"]
    (hook,) = (await stage.world.apply("shop", scm_source=source | {"provider": "github"}))["webhooks"]
    assert hook["status"] == "skipped_no_install"


async def test_a_new_secret(stage: Stage) -> None:
    await bound(stage, "github")
    old = stage.forge.hooks[0]["config"]["secret"]
    answer = await stage.world.http.post(ROTATE)
    body = answer.json()
    new = body["generated_webhook_secret"]
    assert len(bytes.fromhex(new)) == 32
    assert body["webhook"]["status"] == "updated"
    assert stage.forge.hooks[0]["config"]["secret"] == new
    payload = push()
    payload["repository"]["clone_url"] = stage.url
    assert (await send(stage.world, "github", "push", payload, secret=old)).status_code == 401
    assert (await send(stage.world, "github", "push", payload, secret=new)).status_code == 202
    event = (await stage.world.http.get("/api/v1/admin/audit?action=webhook_secret.rotate")).json()["events"][0]
    assert (event["target_type"], event["target_id"]) == ("scm_source", body["scm_source_id"])
    assert event["metadata"] == {"slug": "shop", "provider": "github", "url": body["webhook"]["scm_source_url"]}


async def test_without_a_public_address_no_hook_is_registered(world: World) -> None:
    made = await bind(world)
    assert "webhooks" not in made
    body = (await world.http.post(ROTATE)).json()
    assert set(body) == {"scm_source_id", "generated_webhook_secret"}
    await world.apply("bare")
    assert error(await world.http.post(ROTATE.replace("shop", "none")), 404) == "project not found"
    assert error(await world.http.post(ROTATE.replace("shop", "bare")), 404) == "project has no scm_source bound"


async def test_an_offline_server_registers_nothing(database_url: str, tmp_path: Path) -> None:
    async with staged(database_url, tmp_path, GOCDNEXT_OFFLINE="true") as stage:
        (hook,) = (await bound(stage))["webhooks"]
        assert hook["status"] == "failed"
        assert "GOCDNEXT_OFFLINE" in hook["error"]
        assert stage.there.connections == 0


async def test_hooks_may_point_elsewhere(database_url: str, tmp_path: Path) -> None:
    async with staged(database_url, tmp_path, GOCDNEXT_WEBHOOK_PUBLIC_URL="https://hooks.example/x") as stage:
        await bound(stage, "github")
        assert stage.forge.hooks[0]["config"]["url"] == "https://hooks.example/x"
        await bound(stage, "gitlab")
        assert stage.forge.hooks[1]["url"] == "https://hooks.example/x/api/webhooks/gitlab"
        shown = (await stage.world.http.get("/api/v1/admin/integrations")).json()
        assert shown["github"]["webhook_endpoint"] == "https://hooks.example/x"


# GitHub Apps as administrators keep them (7.8)

VCS = "/api/v1/admin/integrations/vcs"


def kept_app(**more: Any) -> dict[str, Any]:
    return {"name": "acme", "kind": "github_app", "app_id": APP_ID, "private_key": pem(), "enabled": True} | more


async def test_an_app_that_is_kept_is_used(stage: Stage) -> None:
    api = f"{stage.there.url}/api/v3"
    answer = await stage.world.http.post(VCS, json=kept_app(webhook_secret="hush", api_base=api))
    assert answer.status_code == 201
    made = answer.json()
    assert "reload_warning" not in made
    shown = made["integration"]
    assert (shown["has_private_key"], shown["has_webhook_secret"], shown["app_id"]) == (True, True, APP_ID)
    assert "PRIVATE KEY" not in answer.text
    assert "hush" not in answer.text
    stored = await stage.world.db.fetchval("SELECT private_key FROM vcs_integrations")
    assert b"PRIVATE" not in stored
    (hook,) = (await stage.world.apply("shop", scm_source={"provider": "github", "url": stage.url}))["webhooks"]
    assert hook["status"] == "registered", "as the App"
    listed = (await stage.world.http.get(VCS)).json()
    assert [entry["name"] for entry in listed["integrations"]] == ["acme"]
    assert [(entry["name"], entry["source"]) for entry in listed["active"]] == [("acme", "db")]
    # An empty key keeps the one that is there.
    again = (await stage.world.http.post(VCS, json=kept_app(private_key="", display_name="Acme"))).json()
    assert again["integration"]["id"] == shown["id"]
    assert again["integration"]["has_private_key"]
    legacy = (await stage.world.http.get("/api/v1/admin/integrations/github")).json()
    assert legacy["github_app_configured"]
    assert legacy["auto_register_on"]
    assert (await stage.world.http.delete(f"{VCS}/{shown['id']}")).status_code == 204
    assert error(await stage.world.http.delete(f"{VCS}/{shown['id']}"), 404) == "vcs integration not found"
    assert error(await stage.world.http.delete(f"{VCS}/x"), 400) == "invalid id"
    assert (await stage.world.http.get(VCS)).json() == {"integrations": [], "active": []}


async def test_a_key_that_is_none_leaves_the_former_set_in_force(stage: Stage) -> None:
    http = stage.world.http
    await http.post(VCS, json=kept_app())
    for key in ("no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"):
        made = (await http.post(VCS, json=kept_app(name="other", app_id=5, private_key=key))).json()
        assert "the private key is not an RSA key" in made["reload_warning"]
    assert [entry["name"] for entry in (await http.get(VCS)).json()["active"]] == ["acme"]
    assert "integration other" in error(await http.post(f"{VCS}/reload"), 500)
    await http.post(VCS, json=kept_app(name="other", app_id=5, private_key="", enabled=False))
    assert [entry["name"] for entry in (await http.post(f"{VCS}/reload")).json()["active"]] == ["acme"]


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"name": " "}, 400, "store: vcs integration name required"),
    ({"kind": "gitlab"}, 400, 'store: unsupported vcs kind "gitlab"'),
    ({"app_id": 0}, 400, "store: github_app requires a positive app_id"),
    ({"app_id": 2**70}, 400, "store: github_app requires a positive app_id"),
    ({"app_id": "1"}, 400, "invalid json"),
    ({"name": "env"}, 400, "belongs to the App of the environment"),
    ({"api_base": "file:///etc"}, 400, "api_base must be"),
    ({"api_base": "https://u:p@host/"}, 400, "api_base must be"),
    ({"webhook_secret": "a\nb"}, 400, "webhook_secret must be one line"),
    ({"private_key": "x" * 135_000}, 400, "larger than 131072 bytes"),
    ({"name": "second"}, 409, "another enabled integration has this app_id"),
]


async def test_apps_that_are_refused(world: World) -> None:
    await world.http.post(VCS, json=kept_app())
    for body, status, words in REFUSED:
        assert words in error(await world.http.post(VCS, json=kept_app(**body)), status)


async def test_sealed_anew(world: World) -> None:
    """With a newer key, keys and secrets of Apps are sealed with it."""
    await world.http.post(VCS, json=kept_app(webhook_secret="hush"))
    keyring = Keyring([bytes(32), KEY])
    for reseal in (reseal_keys, reseal_secrets):
        assert (await reseal(world.db, keyring)).done == 1
        assert (await reseal(world.db, keyring)).done == 0
    (app,) = await Apps(world.db, Keyring([bytes(32)]), None, world.clock).reload()
    assert app.webhook_secret == "hush"
