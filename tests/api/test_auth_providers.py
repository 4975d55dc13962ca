"""Providers that admins set up: made, changed, removed, in force at once; who keeps which account (contract-admin 7.10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
import trio
import trio_asyncio

from gocdnext.auth.providers import stored
from gocdnext.secrets.sealing import KEY_BYTES, Keyring
from tests.api.crowd import ADMIN, local, person
from tests.api.identity_provider import ON, SECRET, Browser, OpenId, openid
from tests.api.test_conventions import error
from tests.api.world import World, served
from tests.secrets_room import KEY

PATH = "/api/v1/admin/auth/providers"


@pytest.fixture
def database_url(emptied_database: str) -> str:
    """One for the whole module, emptied after each test."""
    return emptied_database


@pytest.fixture
async def pair(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[World, OpenId]]:
    """A server without providers, and an OpenID provider that nobody has told it of."""
    async with openid() as idp, served(database_url, tmp_path / "state", auth=True, variables=ON) as world:
        idp.clock = lambda: world.now.timestamp()
        yield world, idp


async def save(world: World, idp: OpenId, **more: Any) -> httpx.Response:
    body = {
        "name": "acme-sso",
        "kind": "oidc",
        "display_name": "Acme SSO",
        "client_id": "gocd",
        "client_secret": SECRET,
        "issuer": idp.issuer,
        "github_api_base": "",
        "enabled": True,
        **more,
    }
    return await world.http.post(PATH, json=body, headers=ADMIN)


async def buttons(world: World) -> list[str]:
    return [each["name"] for each in (await world.http.get("/auth/providers")).json()["providers"]]


async def test_from_its_making_to_its_end(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    assert (await world.http.get(PATH, headers=ADMIN)).json() == {"enabled": True, "providers": [], "env_only": []}
    made = await save(world, idp)
    assert made.status_code == 201
    provider = made.json()["provider"]
    assert made.json() == {"provider": provider}
    assert provider == {
        "id": provider["id"],
        "name": "acme-sso",
        "kind": "oidc",
        "display_name": "Acme SSO",
        "client_id": "gocd",
        "issuer": idp.issuer,
        "enabled": True,
        "created_at": "2026-04-28T13:00:00Z",
        "updated_at": "2026-04-28T13:00:00Z",
    }
    assert (await world.http.get(PATH, headers=ADMIN)).json()["providers"] == [provider]
    assert (await world.http.get("/auth/providers")).json()["providers"] == [
        {"name": "acme-sso", "display": "Acme SSO"}
    ]
    browser = Browser(world)
    assert (await browser.sign_in(idp, "acme-sso")).status_code == 302
    assert (await browser.me() or {})["provider"] == "acme-sso"
    # Without a secret the one that is there stays.
    changed = await save(world, idp, client_secret="", display_name="")
    assert changed.status_code == 201
    assert changed.json()["provider"]["id"] == provider["id"]
    assert (await browser.sign_in(idp, "acme-sso")).status_code == 302
    assert (await world.http.get("/auth/providers")).json()["providers"] == [
        {"name": "acme-sso", "display": "acme-sso"}
    ]
    assert (await save(world, idp, client_secret=None, enabled=False)).status_code == 201
    assert await buttons(world) == []
    assert (await browser.get("/auth/login/acme-sso")).status_code == 404
    assert (await save(world, idp, enabled=None)).status_code == 201
    assert (await world.http.post(f"{PATH}/reload", headers=ADMIN)).json() == {"active": ["acme-sso"]}
    assert (await world.http.delete(f"{PATH}/{provider['id']}", headers=ADMIN)).status_code == 204
    assert await buttons(world) == []
    assert error(await world.http.delete(f"{PATH}/{provider['id']}", headers=ADMIN), 404) == "auth provider not found"
    assert error(await world.http.delete(f"{PATH}/x", headers=ADMIN), 400) == "invalid provider id"
    # Its people are known by their sessions as long as these last.
    assert await browser.me() is not None


async def test_its_secret_is_sealed_and_told_to_nobody(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    answers = [await save(world, idp), await world.http.get(PATH, headers=ADMIN)]
    answers.append(await world.http.get("/api/v1/admin/audit", headers=ADMIN))
    answers.append(await save(world, idp, name="Bad Name"))
    for answer in answers:
        assert SECRET not in answer.text
    row = await world.db.fetchrow("SELECT * FROM auth_providers")
    assert row is not None
    assert SECRET.encode() not in row["client_secret"]
    # Sealed anew with a newer key, it is the same; a server that has only another key leaves the provider out.
    newer = Keyring([bytes(KEY_BYTES), KEY])
    assert (await stored.reseal(world.db, newer)).done == 1
    [row] = await stored.listed(world.db)
    assert stored.opened(newer, row).client_secret == SECRET
    providers = world.identity.providers
    assert providers is not None
    loaded = await providers.reload()
    assert loaded.active == []
    assert "cannot be opened" in loaded.problems["acme-sso"]
    # A sealed secret is good for its own provider only.
    await world.db.execute("UPDATE auth_providers SET name = 'another'")
    [row] = await stored.listed(world.db)
    with pytest.raises(Exception, match="damaged"):
        stored.opened(newer, row)


async def test_what_is_refused(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    for more, message in (
        ({"name": ""}, "store: provider name + client id required"),
        ({"client_id": " "}, "store: provider name + client id required"),
        ({"kind": "saml"}, 'store: invalid kind "saml"'),
        ({"kind": ""}, 'store: invalid kind ""'),
        ({"client_secret": ""}, "client_secret is required for a new provider"),
        ({"issuer": ""}, "issuer is required for kind oidc"),
        ({"issuer": "http://sso.acme.example"}, "plain http only counts"),
        ({"issuer": "ftp://sso.acme.example"}, "must be an https address"),
        ({"issuer": "https://user:pw@sso.acme.example"}, "must be an https address"),
        ({"issuer": "https://sso.acme.example?x=1"}, "must be an https address"),
        ({"issuer": "https://["}, "must be an https address"),
        ({"issuer": "https://sso.acme.example/\r\nX"}, "plain characters"),
        ({"issuer": "https://s/" + "x" * 1000}, "at most 1000"),
        ({"kind": "github", "github_api_base": "http://192.168.0.1"}, "plain http only counts"),
        ({"display_name": "x" * 201}, "name must be at most 200"),
        ({"display_name": "a\nb"}, "without control characters"),
        ({"client_id": "x" * 501}, "client_id must be"),
        ({"client_secret": "a\nb"}, "client_secret must be"),
        *(({"name": name}, "name must be 1 to 63") for name in ("local", "service_account", "operator_token", "a/b")),
        *(({"name": name}, "name must be 1 to 63") for name in ("A", "..", "-x", "x" * 64, "é", "a b", "providers")),
        ({"name": 7}, "invalid json"),
        ({"enabled": "yes"}, "invalid json"),
        ({"display_name": "x" * 70_000}, "larger than 65536"),
    ):
        answer = await save(world, idp, **more)
        assert message in error(answer, 400), more
    assert error(await world.http.post(PATH, content=b"x", headers=ADMIN), 400).startswith("invalid json")
    assert await world.db.fetchval("SELECT count(*) FROM auth_providers") == 0
    assert idp.there.requests == []
    maintainer = await person(world, "maintainer")
    for method, path in (("GET", PATH), ("POST", PATH), ("DELETE", f"{PATH}/{uuid4()}"), ("POST", f"{PATH}/reload")):
        assert error(await world.http.request(method, path, headers=maintainer.headers), 403) == "forbidden"


async def test_a_secret_does_not_go_to_another_place_by_itself(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    await save(world, idp)
    async with openid() as elsewhere:
        for more in ({"issuer": elsewhere.issuer}, {"kind": "github", "github_api_base": elsewhere.issuer}):
            answer = await save(world, idp, client_secret="", **more)
            assert "client_secret is required when" in error(answer, 400)
        assert elsewhere.there.requests == []


async def test_one_that_cannot_be_reached_is_kept_and_said(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    idp.down = {"/.well-known/openid-configuration"}
    answer = await save(world, idp)
    assert (answer.status_code, answer.json()["reload_warning"]) == (201, "discovery answered 404")
    assert (await save(world, idp, name="gh", kind="github", issuer="")).json().get("reload_warning") is None
    assert await buttons(world) == ["gh"]
    assert (await world.http.get(PATH, headers=ADMIN)).json()["problems"] == {"acme-sso": "discovery answered 404"}
    idp.down = set()
    assert (await world.http.post(f"{PATH}/reload", headers=ADMIN)).json() == {"active": ["acme-sso", "gh"]}


async def test_a_row_takes_the_place_of_the_environments(database_url: str, tmp_path: Path) -> None:
    async with openid() as idp:
        github = {"GOCDNEXT_AUTH_GITHUB_CLIENT_ID": "x", "GOCDNEXT_AUTH_GITHUB_CLIENT_SECRET": "y"}
        variables = ON | idp.environment("keycloak") | github
        async with served(database_url, tmp_path / "state", auth=True, variables=variables) as world:
            await save(world, idp, name="aaa")
            assert await buttons(world) == ["github", "keycloak", "aaa"]
            made = await save(world, idp, name="keycloak", display_name="Ours")
            assert (await world.http.get(PATH, headers=ADMIN)).json()["env_only"] == ["github"]
            assert await buttons(world) == ["github", "keycloak", "aaa"]
            assert (await world.http.get("/auth/providers")).json()["providers"][1]["display"] == "Ours"
            await save(world, idp, name="keycloak", enabled=False)
            assert await buttons(world) == ["github", "aaa"]
            await world.http.delete(f"{PATH}/{made.json()['provider']['id']}", headers=ADMIN)
            assert await buttons(world) == ["github", "keycloak", "aaa"]


async def test_the_same_subject_of_another_issuer_is_somebody_else(pair: tuple[World, OpenId]) -> None:
    """Somebody with subject 1 at the new provider must not get the account of subject 1 at the old one."""
    world, old = pair
    async with openid() as new:
        new.clock = old.clock
        await save(world, old)
        old.claims = new.claims = {"sub": "1"}
        browser = Browser(world)
        assert (await browser.sign_in(old, "acme-sso")).status_code == 302
        mine = await browser.me()
        assert (await save(world, new)).status_code == 201
        new.claims = {"sub": "1", "email": "evil@acme.example"}
        answer = await Browser(world).sign_in(new, "acme-sso")
        assert "another issuer" in error(answer, 403)
        assert await world.db.fetchval("SELECT email FROM users") == "rita@acme.example"
        # Who is new there is new here.
        new.claims = {"sub": "2"}
        assert (await Browser(world).sign_in(new, "acme-sso")).status_code == 302
        # The people have only moved: an admin says so.
        new.claims = {"sub": "1"}
        assert (await save(world, new, adopt_accounts=True)).status_code == 201
        assert (await browser.sign_in(new, "acme-sso")).status_code == 302
        assert (await browser.me() or {})["id"] == (mine or {})["id"]


async def test_there_is_always_a_way_in_for_an_admin(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    await save(world, idp)
    provider = (await save(world, idp)).json()["provider"]
    await Browser(world).sign_in(idp, "acme-sso")
    # Nobody is an admin: nothing can be lost.
    assert (await save(world, idp, enabled=False)).status_code == 201
    assert (await save(world, idp)).status_code == 201
    await world.db.execute("UPDATE users SET role = 'admin'")
    admin = await world.db.fetchrow("SELECT id FROM users")
    assert admin is not None
    no_way = "no admin could sign in any more"
    assert no_way in error(await world.http.delete(f"{PATH}/{provider['id']}", headers=ADMIN), 409)
    assert no_way in error(await save(world, idp, enabled=False), 409)
    assert await buttons(world) == ["acme-sso"]
    # A second admin, by another provider, and then that one is gone by force.
    boss = await local(world, "boss@acme.example", "admin")
    assert (await save(world, idp, enabled=False)).status_code == 201
    last = "this is the last admin who can sign in"
    for method, path, body in (
        ("PUT", "role", {"role": "viewer"}),
        ("POST", "disable", {"disabled": True}),
        ("DELETE", "", None),
    ):
        answer = await world.http.request(
            method, f"/api/v1/admin/users/{boss['id']}/{path}".rstrip("/"), json=body, headers=ADMIN
        )
        assert last in error(answer, 409)
    assert (await save(world, idp)).status_code == 201
    path = f"/api/v1/admin/users/{boss['id']}/role"
    assert (await world.http.put(path, json={"role": "viewer"}, headers=ADMIN)).status_code == 200


async def test_what_is_told_of_it(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    provider = (await save(world, idp)).json()["provider"]
    await world.http.post(f"{PATH}/reload", headers=ADMIN)
    await world.http.delete(f"{PATH}/{provider['id']}", headers=ADMIN)
    events = (await world.http.get("/api/v1/admin/audit", headers=ADMIN)).json()["events"]
    told = {each["action"]: each for each in events}
    assert set(told) == {"auth_provider.set", "auth_provider.reload", "auth_provider.delete"}
    assert told["auth_provider.set"]["target_id"] == told["auth_provider.delete"]["target_id"] == provider["id"]
    assert told["auth_provider.set"]["metadata"] == {
        "name": "acme-sso",
        "kind": "oidc",
        "issuer": idp.issuer,
        "enabled": True,
        "new_secret": True,
        "adopt_accounts": False,
    }
    assert told["auth_provider.delete"]["metadata"] == {"name": "acme-sso"}


async def test_without_a_public_address_nobody_can_come_back(database_url: str, tmp_path: Path) -> None:
    async with openid() as idp:
        variables = ON | {"GOCDNEXT_PUBLIC_BASE": ""}
        async with served(database_url, tmp_path / "state", auth=True, variables=variables) as world:
            assert "GOCDNEXT_PUBLIC_BASE" in (await save(world, idp)).json()["reload_warning"]
            assert await buttons(world) == []


async def test_another_server_on_the_database_hears_of_it(pair: tuple[World, OpenId], database_url: str) -> None:
    """Every change is announced when it is committed, and `changed` makes `run` read again (`server._channels`)."""
    world, idp = pair
    heard = trio.Event()

    async def listen() -> asyncpg.Connection[asyncpg.Record]:
        conn = await asyncpg.connect(database_url)
        await conn.add_listener("auth_providers_changed", lambda *_: heard.set())
        return conn

    conn = await trio_asyncio.aio_as_trio(listen)()
    await save(world, idp)
    with trio.fail_after(30):
        await heard.wait()
    await trio_asyncio.aio_as_trio(conn.close)()
    providers = world.identity.providers
    assert providers is not None
    await world.db.execute("UPDATE auth_providers SET enabled = false")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(providers.run)
        with trio.fail_after(30):
            while await buttons(world):
                await trio.lowlevel.checkpoint()
            await world.db.execute("UPDATE auth_providers SET enabled = true")
            providers.changed()
            while not await buttons(world):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
