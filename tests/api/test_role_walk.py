"""Every route, asked by every kind of caller: the table of roles is what holds (contract-runs 0.1, anchors E 1 and 16)."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from gocdnext.auth import accounts, roles, service_accounts
from gocdnext.auth.roles import Role
from tests.api.crowd import ADMIN, bearer, cookie_of, local, machine, person, sign_in
from tests.api.test_conventions import error
from tests.api.world import PIPELINE, TOKEN, World

ROUTES = [(*route.split(" "), minimum) for route, minimum in roles.MINIMUM.items()]
PROTECTED = [(method, path) for method, path, minimum in ROUTES if minimum is not Role.PUBLIC]
BY_LINK = ("/artifacts/", "/api/webhooks/")
"""Public, and with a credential of their own in the request."""


def address(path: str, thing: str) -> str:
    """A path with something in the place of each variable part."""
    return re.sub(r"<(\w+:)?\w+>", thing, path)


async def ask(world: World, method: str, path: str, headers: dict[str, str], thing: str = "") -> httpx.Response:
    # The body of a login would count as a try: nothing is sent that a route could act on.
    return await world.http.request(method, address(path, thing or str(uuid4())), headers=headers)


async def strangers(world: World) -> list[tuple[str, dict[str, str]]]:
    """Headers of callers who are nobody (any more)."""
    expired = await person(world, "admin", ends=timedelta(seconds=1))
    revoked, disabled, gone = [await person(world, "admin") for _ in range(3)]
    shut, deleted = await machine(world, "admin"), await machine(world, "admin")
    await world.db.execute("UPDATE api_tokens SET revoked_at = now() WHERE user_id = $1", revoked.id)
    await accounts.set_disabled(world.identity, disabled.id, True, None)
    await accounts.delete(world.identity, gone.id, None)
    await service_accounts.set_disabled(world.identity, shut.id, True)
    await service_accounts.delete(world.identity, deleted.id)
    await local(world, "left@acme.example", "admin")
    ended = cookie_of(await sign_in(world, "left@acme.example"))
    await world.http.post("/auth/logout", headers=ended)
    world.now += timedelta(seconds=1)
    return [
        ("anonymous", {}),
        ("nonsense", bearer("wrong")),
        ("scheme in small letters", {"Authorization": f"bearer {TOKEN}"}),
        ("another scheme", {"Authorization": f"Basic {TOKEN}"}),
        ("a little more", bearer(f"{TOKEN}x")),
        ("not ASCII", {"Authorization": "Bearer é"}),
        ("expired", expired.headers),
        ("revoked", revoked.headers),
        ("disabled", disabled.headers),
        ("deleted", gone.headers),
        ("disabled service account", shut.headers),
        ("deleted service account", deleted.headers),
        ("ended session", ended),
        ("made-up session", {"Cookie": f"gocdnext_session={'0' * 64}"}),
    ]


async def test_strangers_are_told_the_same_everywhere(guarded: World) -> None:
    body = {"slug": "billing", "files": [{"name": "ci.yaml", "content": PIPELINE}]}
    assert (await guarded.http.post("/api/v1/projects/apply", json=body, headers=ADMIN)).status_code == 200
    for who, headers in await strangers(guarded):
        raw: dict[str, str] | dict[str, bytes] = headers
        if not all(value.isascii() for value in headers.values()):
            raw = {name: value.encode() for name, value in headers.items()}
        told = set()
        for method, path in PROTECTED:
            for thing in ("billing", str(uuid4())):
                answer = await ask(guarded, method, path, raw, thing)  # type: ignore[arg-type]
                assert error(answer, 401) == "not authenticated", (who, method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
                told.add(answer.text)
        assert len(told) == 1


@pytest.mark.parametrize("kind", ["person", "machine", "session"])
@pytest.mark.parametrize("role", ["viewer", "maintainer", "admin"])
async def test_each_role_gets_as_far_as_the_table_says(guarded: World, role: str, kind: str) -> None:
    rank = Role[role.upper()]
    for method, path, minimum in ROUTES:
        if minimum is Role.PUBLIC:
            continue
        # Anew each time: some of what an admin may do ends the caller's own session or account.
        if kind == "session":
            headers = await session(guarded, role)
        else:
            headers = (await (person if kind == "person" else machine)(guarded, role)).headers
        answer = await ask(guarded, method, path, headers)
        if rank < minimum:
            assert error(answer, 403) == "forbidden", (method, path)
            nowhere = await ask(guarded, method, path, headers, "billing")
            assert nowhere.text == answer.text
        else:
            assert answer.status_code != 401, (method, path)
            own_business = path.startswith(("/api/v1/account", "/api/v1/me"))
            assert (
                answer.status_code != 403
                or (own_business and answer.json()["error"] != "forbidden")
                or (kind == "machine" and own_business)
            ), (method, path, answer.text)


async def session(world: World, role: str) -> dict[str, str]:
    """A session that was opened without a password: hashing one for each route would take minutes."""
    from gocdnext.auth import sessions

    someone = await person(world, role)
    cookie, _, _ = await sessions.open_session(world.identity, someone.id, "", None)
    return {"Cookie": f"gocdnext_session={cookie}"}


async def test_public_routes_ask_for_nobody_and_look_nobody_up(guarded: World) -> None:
    someone = await person(guarded, "admin")
    guarded.identity.callers._db = None  # type: ignore[assignment]
    for method, path, minimum in ROUTES:
        if minimum is not Role.PUBLIC or path.startswith(BY_LINK):
            continue
        for headers in ({}, someone.headers, {"Cookie": f"gocdnext_session={'0' * 64}"}, bearer("wrong")):
            answer = await ask(guarded, method, path, headers)
            assert answer.status_code not in (401, 403, 500), (method, path)


async def test_the_operator_is_let_in_everywhere(guarded: World) -> None:
    for method, path in PROTECTED:
        answer = await ask(guarded, method, path, ADMIN)
        assert answer.status_code != 401, (method, path)
        assert answer.status_code != 403 or path.startswith(("/api/v1/account", "/api/v1/me")), (method, path)


async def test_what_a_link_is_for_is_opened_by_nothing_else(guarded: World) -> None:
    someone = await person(guarded, "admin")
    links = [(method, path) for method, path, _ in ROUTES if path.startswith("/artifacts/")]
    assert links
    for method, path in links:
        for headers in ({}, ADMIN, someone.headers):
            assert error(await ask(guarded, method, path, headers), 401) == "bad token"
