"""API tokens and service accounts through the API, and how look-ups are remembered (contract-admin 1.4, 3.3, 4)."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from gocdnext.auth import callers, tokens
from gocdnext.auth.room import Room
from tests.api.crowd import ADMIN, bearer, machine, person
from tests.api.test_conventions import error
from tests.api.world import TOKEN, World, served
from tests.postgres_fixture import running_server

TOKENS = "/api/v1/account/api-tokens"
BOTS = "/api/v1/admin/service-accounts"


async def me(world: World, headers: dict[str, str]) -> int:
    return (await world.http.get("/api/v1/me", headers=headers)).status_code


async def test_a_token_is_shown_once_and_kept_as_a_hash(guarded: World) -> None:
    someone = await person(guarded, "viewer")
    answer = await guarded.http.post(TOKENS, json={"name": " laptop "}, headers=someone.headers)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    text, token = answer.json()["plaintext"], answer.json()["token"]
    assert re.fullmatch(r"gnk_[0-9A-V]{52}", text)
    assert token["name"] == "laptop"
    assert token["prefix"] == text[4:12]
    assert set(token) == {"id", "name", "prefix", "created_at"}
    listed = (await guarded.http.get(TOKENS, headers=someone.headers)).text
    assert text not in listed
    assert [each["name"] for each in (await guarded.http.get(TOKENS, headers=someone.headers)).json()["tokens"]] != []
    stored = str([dict(row) for row in await guarded.db.fetch("SELECT * FROM api_tokens")])
    assert text[4:] not in stored
    assert await me(guarded, bearer(text)) == 200


async def test_what_is_refused_of_a_token(guarded: World) -> None:
    headers = (await person(guarded, "viewer")).headers
    past = (guarded.now - timedelta(seconds=1)).isoformat()
    for body, message in (
        (b"{", "invalid json"),
        (b"", "invalid json"),
        (b"{}", "name is required"),
        (b'{"name": "  "}', "name is required"),
        (b'{"name": "a\\nSet-Cookie: b"}', "without control characters"),
        (b'{"name": "' + b"a" * 201 + b'"}', "at most 200"),
        (b'{"name": "' + b"a" * 5000 + b'"}', "larger than 4096"),
        (f'{{"name": "a", "expires_at": "{past}"}}'.encode(), "expires_at must be in the future"),
        (b'{"name": "a", "expires_at": "2030-01-01T00:00:00"}', "time zone"),
        (b'{"name": "a", "expires_at": "soon"}', "invalid json"),
    ):
        assert message in error(await guarded.http.post(TOKENS, content=body, headers=headers), 400)


async def test_tokens_of_others_are_not_there(guarded: World) -> None:
    owner, other = await person(guarded, "viewer"), await person(guarded, "admin")
    mine = (await guarded.http.get(TOKENS, headers=owner.headers)).json()["tokens"][0]["id"]
    assert error(await guarded.http.delete(f"{TOKENS}/{mine}", headers=other.headers), 404) == "not found"
    assert error(await guarded.http.delete(f"{TOKENS}/{uuid4()}", headers=other.headers), 404) == "not found"
    assert error(await guarded.http.delete(f"{TOKENS}/nonsense", headers=other.headers), 400) == "invalid token id"
    assert mine not in (await guarded.http.get(TOKENS, headers=other.headers)).text


async def test_revocation_is_seen_at_once(guarded: World) -> None:
    someone = await person(guarded, "viewer")
    made = (await guarded.http.post(TOKENS, json={"name": "x"}, headers=someone.headers)).json()
    assert await me(guarded, bearer(made["plaintext"])) == 200
    for _ in range(2):  # again is fine
        answer = await guarded.http.delete(f"{TOKENS}/{made['token']['id']}", headers=someone.headers)
        assert answer.status_code == 204
        assert answer.content == b""
        assert "content-type" not in answer.headers
    assert await me(guarded, bearer(made["plaintext"])) == 401
    listed = (await guarded.http.get(TOKENS, headers=someone.headers)).json()["tokens"]
    assert next(each for each in listed if each["id"] == made["token"]["id"])["revoked_at"]


async def test_a_token_expires_also_while_it_is_remembered(guarded: World) -> None:
    someone = await person(guarded, "viewer", ends=timedelta(seconds=60))
    assert await me(guarded, someone.headers) == 200
    guarded.now += timedelta(seconds=60)
    assert await me(guarded, someone.headers) == 401


async def test_last_used_is_written_once_a_minute(guarded: World) -> None:
    someone = await person(guarded, "viewer")
    used = "SELECT last_used_at FROM api_tokens WHERE user_id = $1"
    assert await guarded.db.fetchval(used, someone.id) is None
    begin = guarded.now
    for seconds, seen in ((0, 0), (10, 0), (59, 0), (60, 60), (61, 60)):
        guarded.now = begin + timedelta(seconds=seconds)
        guarded.identity.callers.forget()
        assert await me(guarded, someone.headers) == 200
        assert await guarded.db.fetchval(used, someone.id) == begin + timedelta(seconds=seen)


async def test_a_look_up_is_remembered_for_five_seconds_and_another_server_sees_it_then(guarded: World) -> None:
    someone, ticks = await person(guarded, "viewer"), [0.0]
    elsewhere = callers.Callers(guarded.db, guarded.clock, lambda: ticks[0])
    assert await elsewhere.by_token(someone.token) is not None
    await guarded.db.execute("UPDATE api_tokens SET revoked_at = now() WHERE user_id = $1", someone.id)
    ticks[0] = callers.TTL - 0.01
    assert await elsewhere.by_token(someone.token) is not None
    ticks[0] = callers.TTL
    assert await elsewhere.by_token(someone.token) is None


async def test_a_look_up_under_way_does_not_bring_back_what_was_revoked(guarded: World) -> None:
    someone = await person(guarded, "viewer")
    cache = guarded.identity.callers

    class Slow:
        """A database whose answer is old by the time it arrives."""

        async def run(self, work: object) -> object:
            found = await guarded.db.run(work)  # type: ignore[arg-type]
            await guarded.db.execute("UPDATE api_tokens SET revoked_at = now() WHERE user_id = $1", someone.id)
            cache.forget()
            return found

    cache._db = Slow()  # type: ignore[assignment]
    assert await cache.by_token(someone.token) is not None
    cache._db = guarded.db
    assert await cache.by_token(someone.token) is None


async def test_what_is_remembered_is_bounded(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MOST", 3)
    for _ in range(5):
        assert await guarded.identity.callers.by_token(tokens.make(for_service_account=False).plaintext) is None
    assert len(guarded.identity.callers._known) == 3


async def test_what_is_no_token_is_not_looked_up(guarded: World) -> None:
    good = (await person(guarded, "viewer")).token
    guarded.identity.callers._db = None  # type: ignore[assignment]
    for text in ("nonsense", "gnk_", good.lower(), good[:-1], good + "0", good.replace("gnk_", "gnk_sa", 1), "x" * 600):
        assert await me(guarded, bearer(text)) == 401
    for header in (f"bearer {good}", f"Basic {good}", good, ""):
        assert await me(guarded, {"Authorization": header}) == 401


async def test_the_kinds_of_tokens_are_kept_apart(guarded: World) -> None:
    someone, bot = await person(guarded, "viewer"), await machine(guarded, "viewer")
    assert await me(guarded, bearer(someone.token.replace("gnk_", "gnk_sa_"))) == 401
    assert await me(guarded, bearer(bot.token.replace("gnk_sa_", "gnk_"))) == 401


async def test_a_token_in_the_address_is_ignored(guarded: World) -> None:
    someone = await person(guarded, "admin")
    for name in ("token", "access_token", "bearer", "api_key", "Authorization", "gocdnext_session"):
        assert error(await guarded.http.get(f"/api/v1/runs?{name}={someone.token}"), 401) == "not authenticated"
        assert error(await guarded.http.get(f"/api/v1/runs?{name}={TOKEN}"), 401) == "not authenticated"
    body = {"token": someone.token, "access_token": someone.token}
    error(await guarded.http.post("/api/v1/projects/apply", json=body), 401)


async def test_the_database_being_away_is_503_and_never_401(tmp_path: Path) -> None:
    with running_server() as server:
        url = server.migrated_database()
        async with served(url, tmp_path / "state", auth=True) as world:
            someone = await person(world, "viewer")
            assert await me(world, someone.headers) == 200
            server.stop()
            world.identity.callers.forget()
            answer = await world.http.get("/api/v1/me", headers=someone.headers)
            assert error(answer, 503)
            assert answer.headers["retry-after"]
            error(await world.http.get("/api/v1/me", headers={"Cookie": f"{tokens.COOKIE}={'a' * 64}"}), 503)
            # Public routes look nothing up; nonsense and the operator need no look.
            answer = await world.http.get("/version", headers=someone.headers)
            assert answer.status_code == 200
            assert await me(world, bearer("nonsense")) == 401
            assert await me(world, ADMIN) == 200


async def test_service_accounts(guarded: World) -> None:
    admin = await person(guarded, "admin")
    body = {"name": "deploy-bot", "description": "nightly promoter", "role": " Maintainer "}
    answer = await guarded.http.post(BOTS, json=body, headers=admin.headers)
    assert answer.status_code == 201
    made = answer.json()
    assert made["role"] == "maintainer"
    assert made["created_by"] == str(admin.id)
    assert error(await guarded.http.post(BOTS, json=body, headers=admin.headers), 409) == "name already taken"
    path = f"{BOTS}/{made['id']}"
    answer = await guarded.http.post(f"{path}/tokens", json={"name": "ci"}, headers=admin.headers)
    assert answer.status_code == 201
    text, token_id = answer.json()["plaintext"], answer.json()["token"]["id"]
    assert re.fullmatch(r"gnk_sa_[0-9A-V]{52}", text)
    user = (await guarded.http.get("/api/v1/me", headers=bearer(text))).json()["user"]
    assert user["email"] == "deploy-bot@service-account"
    assert user["provider"] == "service_account"
    assert user["role"] == "maintainer"
    assert user["external_id"] == ""

    async def changed(verb: str, where: str, **more: object) -> None:
        answer = await guarded.http.request(verb, where, headers=admin.headers, **more)  # type: ignore[arg-type]
        assert answer.status_code == 204, answer.text

    await changed("PUT", path, json={"description": "", "role": "viewer"})
    assert error(await guarded.http.post("/api/v1/projects/apply", json={}, headers=bearer(text)), 403) == "forbidden"
    await changed("POST", f"{path}/disable", json={"disabled": True})
    assert await me(guarded, bearer(text)) == 401
    await changed("POST", f"{path}/disable", json={"disabled": False})
    assert await me(guarded, bearer(text)) == 200
    await changed("DELETE", f"{path}/tokens/{token_id}")
    assert await me(guarded, bearer(text)) == 401
    assert len((await guarded.http.get(f"{path}/tokens", headers=admin.headers)).json()["tokens"]) == 1
    await changed("DELETE", path)
    await changed("DELETE", path)
    assert (await guarded.http.get(BOTS, headers=admin.headers)).json() == {"service_accounts": []}


async def test_what_is_refused_of_service_accounts(guarded: World) -> None:
    for body, message in (
        ({"role": "viewer"}, "name is required"),
        ({"name": "x"}, "role must be one of: admin, maintainer, viewer"),
        ({"name": "x", "role": "root"}, "role must be one of: admin, maintainer, viewer"),
        ({"name": "x\r\ny", "role": "viewer"}, "control characters"),
        ({"name": "x", "role": "viewer", "description": "a\0b"}, "description"),
    ):
        assert message in error(await guarded.http.post(BOTS, json=body, headers=ADMIN), 400)
    nobody = f"{BOTS}/{uuid4()}"
    for verb, path, document, status in (
        ("PUT", nobody, {"role": "viewer"}, 404),
        ("POST", f"{nobody}/disable", {"disabled": True}, 404),
        ("POST", f"{nobody}/disable", {}, 400),
        ("POST", f"{nobody}/tokens", {"name": "x"}, 404),
        ("DELETE", f"{nobody}/tokens/{uuid4()}", None, 404),
        ("PUT", f"{BOTS}/x", {"role": "viewer"}, 400),
        ("GET", f"{BOTS}/x/tokens", None, 400),
    ):
        error(await guarded.http.request(verb, path, json=document, headers=ADMIN), status)
    assert (await guarded.http.get(f"{nobody}/tokens", headers=ADMIN)).json() == {"tokens": []}


async def test_service_accounts_have_no_account_of_a_person(guarded: World) -> None:
    bot = await machine(guarded, "admin")
    account = "service accounts manage tokens via /admin/service-accounts"
    assert error(await guarded.http.get(TOKENS, headers=bot.headers), 403) == account
    assert error(await guarded.http.post(TOKENS, json={"name": "x"}, headers=bot.headers), 403) == account
    assert error(await guarded.http.delete(f"{TOKENS}/{uuid4()}", headers=bot.headers), 403) == "forbidden"
    preferences = "/api/v1/account/preferences"
    assert (await guarded.http.get(preferences, headers=bot.headers)).json() == {"preferences": {}}
    error(await guarded.http.put(preferences, json={"preferences": {}}, headers=bot.headers), 403)
    # What it makes has no maker: that column names people.
    made = await guarded.http.post(BOTS, json={"name": "x", "role": "viewer"}, headers=bot.headers)
    assert "created_by" not in made.json()
    assert (await guarded.http.post("/api/v1/admin/groups", json={"name": "g"}, headers=bot.headers)).status_code == 201


async def test_the_operator_token_is_an_admin_without_an_account(guarded: World) -> None:
    user = (await guarded.http.get("/api/v1/me", headers=ADMIN)).json()["user"]
    assert (user["name"], user["role"], user["provider"]) == ("operator", "admin", "operator_token")
    error(await guarded.http.get(TOKENS, headers=ADMIN), 403)


async def test_too_many_tokens(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gocdnext.auth.api_tokens.MOST", 2)
    someone = await person(guarded, "viewer")
    assert (await guarded.http.post(TOKENS, json={"name": "x"}, headers=someone.headers)).status_code == 201
    assert "revoke some" in error(await guarded.http.post(TOKENS, json={"name": "x"}, headers=someone.headers), 409)


async def test_lists_take_limit_and_offset(guarded: World) -> None:
    someone = await person(guarded, "viewer")
    for name in "abc":
        guarded.now += timedelta(seconds=1)
        await guarded.http.post(TOKENS, json={"name": name}, headers=someone.headers)

    async def names(query: str) -> list[str]:
        answer = await guarded.http.get(f"{TOKENS}?{query}", headers=someone.headers)
        return [each["name"] for each in answer.json()["tokens"]]

    assert await names("limit=2") == ["c", "b"]
    assert await names("limit=2&offset=1") == ["b", "a"]
    assert len(await names("limit=nonsense&offset=-1")) == 4


async def test_tokens_are_in_no_log_and_no_error(
    guarded: World, caplog: pytest.LogCaptureFixture, capfd: object
) -> None:
    caplog.set_level(logging.DEBUG)
    someone = await person(guarded, "viewer")
    answers = [
        await guarded.http.get("/api/v1/me", headers=someone.headers),
        await guarded.http.post("/api/v1/projects/apply", json={}, headers=someone.headers),
        await guarded.http.get("/api/v1/nope", headers=someone.headers),
        await guarded.http.post(TOKENS, content=f'{{"name": "{someone.token}'.encode(), headers=someone.headers),
    ]
    assert someone.token not in "".join(answer.text + str(answer.headers) for answer in answers)
    out, err = capfd.readouterr()  # type: ignore[attr-defined]
    assert someone.token not in caplog.text + out + err
    room = Room(guarded.db, guarded.clock, uuid4, operator_token=TOKEN)
    assert TOKEN not in repr(room)
