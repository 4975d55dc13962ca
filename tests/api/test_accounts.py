"""Accounts of people and groups through the API (contract-admin 7.1, 7.2); there is always an admin."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from tests.api.crowd import ADMIN, PASSWORD, Someone, local, machine, person
from tests.api.test_conventions import error
from tests.api.world import World

USERS = "/api/v1/admin/users"
GROUPS = "/api/v1/admin/groups"


async def test_users(guarded: World) -> None:
    made = await local(guarded, " Omar@ACME.example ", "viewer")
    assert made["email"] == made["external_id"] == "omar@acme.example"
    assert made["provider"] == "local"
    assert "last_login_at" not in made
    await local(guarded, "anna@acme.example")
    listed = (await guarded.http.get(USERS, headers=ADMIN)).json()["users"]
    assert [user["email"] for user in listed] == ["anna@acme.example", "omar@acme.example"]
    body = {"email": "omar@acme.example", "password": PASSWORD}
    assert error(await guarded.http.post(USERS, json=body, headers=ADMIN), 409) == "user already exists"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"password": PASSWORD}, "email is required"),
        ({"email": "a b@c", "password": PASSWORD}, "one word"),
        ({"email": "a\r\nX-Evil: 1", "password": PASSWORD}, "one word"),
        ({"email": "a" * 321, "password": PASSWORD}, "at most 320"),
        ({"email": "a@b.c"}, "password is required"),
        ({"email": "a@b.c", "password": "1234567"}, "store: password does not meet policy: minimum 8 characters"),
        ({"email": "a@b.c", "password": "ü" * 257}, "store: password does not meet policy: maximum 512 characters"),
        ({"email": "a@b.c", "password": PASSWORD, "role": "root"}, 'store: invalid role "root"'),
        ({"email": "a@b.c", "password": PASSWORD, "name": "x\r\nSet-Cookie: a=b"}, "control characters"),
        ({"email": "a@b.c", "password": PASSWORD, "name": "\x1b]0;title\x07"}, "control characters"),
        ({"email": 7, "password": PASSWORD}, "invalid json"),
    ],
)
async def test_what_is_refused_of_a_user(guarded: World, body: dict[str, object], message: str) -> None:
    said = error(await guarded.http.post(USERS, json=body, headers=ADMIN), 400)
    assert message in said
    assert PASSWORD not in said


async def test_what_is_refused_of_a_role(guarded: World) -> None:
    someone, admin = await person(guarded, "viewer"), await person(guarded, "admin")
    path = f"{USERS}/{someone.id}/role"
    assert error(await guarded.http.put(path, json={}, headers=ADMIN), 400) == "role is required"
    assert error(await guarded.http.put(path, json={"role": "x"}, headers=ADMIN), 400) == 'store: invalid role: "x"'
    error(await guarded.http.put(f"{USERS}/x/role", json={"role": "viewer"}, headers=ADMIN), 400)
    nobody = f"{USERS}/{uuid4()}"
    assert error(await guarded.http.put(f"{nobody}/role", json={"role": "viewer"}, headers=ADMIN), 404)
    assert error(await guarded.http.post(f"{nobody}/disable", json={"disabled": True}, headers=ADMIN), 404)
    assert (await guarded.http.delete(nobody, headers=ADMIN)).status_code == 204
    own = f"{USERS}/{admin.id}"
    answer = await guarded.http.put(f"{own}/role", json={"role": "viewer"}, headers=admin.headers)
    assert error(answer, 403) == "cannot demote yourself"
    assert (await guarded.http.put(f"{own}/role", json={"role": "admin"}, headers=admin.headers)).status_code == 200
    answer = await guarded.http.post(f"{own}/disable", json={"disabled": True}, headers=admin.headers)
    assert error(answer, 403) == "cannot disable yourself"
    assert error(await guarded.http.delete(own, headers=admin.headers), 403) == "cannot delete yourself"


async def test_the_last_admin_stays(guarded: World) -> None:
    last, bot = await person(guarded, "admin"), await machine(guarded, "admin")
    path = f"{USERS}/{last.id}"
    for headers in (ADMIN, bot.headers):
        for verb, where, body in (
            ("PUT", f"{path}/role", {"role": "viewer"}),
            ("POST", f"{path}/disable", {"disabled": True}),
            ("DELETE", path, None),
        ):
            assert "last admin" in error(await guarded.http.request(verb, where, json=body, headers=headers), 409)
    second = await person(guarded, "admin")
    answer = await guarded.http.post(f"{USERS}/{second.id}/disable", json={"disabled": True}, headers=ADMIN)
    assert answer.status_code == 204
    # One who is shut out does not count.
    error(await guarded.http.delete(path, headers=ADMIN), 409)
    answer = await guarded.http.post(f"{USERS}/{second.id}/disable", json={"disabled": False}, headers=ADMIN)
    assert (await guarded.http.delete(path, headers=ADMIN)).status_code == 204


async def test_two_admins_cannot_remove_each_other(guarded: World) -> None:
    pair = await person(guarded, "admin"), await person(guarded, "admin")
    states: list[int] = []

    async def remove(who: Someone, whom: Someone) -> None:
        states.append((await guarded.http.delete(f"{USERS}/{whom.id}", headers=who.headers)).status_code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove, *pair)
        nursery.start_soon(remove, *reversed(pair))
    assert 204 in states
    assert await guarded.db.fetchval("SELECT count(*) FROM users WHERE role = 'admin'") == 1


async def test_groups(guarded: World) -> None:
    rita = await local(guarded)
    admin = await person(guarded, "admin")
    answer = await guarded.http.post(GROUPS, json={"name": "release-managers"}, headers=admin.headers)
    assert answer.status_code == 201
    group = answer.json()
    assert (group["description"], group["member_count"], group["created_by"]) == ("", 0, str(admin.id))
    path = f"{GROUPS}/{group['id']}"

    async def done(verb: str, where: str, body: object = None) -> None:
        answer = await guarded.http.request(verb, where, json=body, headers=ADMIN)
        assert answer.status_code == 204, answer.text

    for _ in range(2):
        await done("POST", f"{path}/members", {"user_id": rita["id"]})
    [member] = (await guarded.http.get(f"{path}/members", headers=ADMIN)).json()["members"]
    assert (member["email"], member["name"], member["role"]) == ("rita@acme.example", "Rita Moss", "maintainer")
    [listed] = (await guarded.http.get(GROUPS, headers=ADMIN)).json()["groups"]
    assert listed["member_count"] == 1
    await done("PUT", path, {"name": "leads", "description": "may open prod"})
    for _ in range(2):
        await done("DELETE", f"{path}/members/{rita['id']}")
    for _ in range(2):
        await done("DELETE", path)
    assert (await guarded.http.get(GROUPS, headers=ADMIN)).json() == {"groups": []}


async def test_what_is_refused_of_groups(guarded: World) -> None:
    await guarded.http.post(GROUPS, json={"name": "a"}, headers=ADMIN)
    group = (await guarded.http.post(GROUPS, json={"name": "b"}, headers=ADMIN)).json()["id"]
    someone, nobody = await person(guarded, "viewer"), uuid4()
    for verb, path, body, status, message in (
        ("POST", "", {}, 400, "name is required"),
        ("POST", "", {"name": "a b"}, 400, "name may only contain"),
        ("POST", "", {"name": "a\n"}, 409, "group name already exists"),
        ("POST", "", {"name": "a"}, 409, "group name already exists"),
        ("PUT", f"/{group}", {"name": "a"}, 409, "group name already exists"),
        ("PUT", f"/{nobody}", {"name": "c"}, 404, "group not found"),
        ("PUT", "/x", {"name": "c"}, 400, "invalid group id"),
        ("POST", f"/{group}/members", {"user_id": "x"}, 400, "invalid user_id"),
        ("POST", f"/{group}/members", {"user_id": str(nobody)}, 404, "user not found"),
        ("POST", f"/{nobody}/members", {"user_id": str(someone.id)}, 404, "group not found"),
    ):
        assert message in error(await guarded.http.request(verb, GROUPS + path, json=body, headers=ADMIN), status)


async def test_a_gate_asks_for_a_group(guarded: World) -> None:
    """A voter's groups are those of the account, whatever the request says."""
    someone = await person(guarded, "maintainer")
    group = (await guarded.http.post(GROUPS, json={"name": "leads"}, headers=ADMIN)).json()["id"]
    subject = await guarded.identity.callers.by_token(someone.token)
    assert subject is not None
    assert subject.groups == frozenset()
    await guarded.http.post(f"{GROUPS}/{group}/members", json={"user_id": str(someone.id)}, headers=ADMIN)
    subject = await guarded.identity.callers.by_token(someone.token)
    assert subject is not None
    assert subject.groups == {"leads"}
