"""Signing in and out with a password, the first admin, and what other sites may not do (contract-admin 1.3 to 1.6, 2)."""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta

import httpx
import pytest
import trio

from gocdnext.auth import oldhash, passwords, tokens
from gocdnext.auth.setup import SetupCode
from tests.api.crowd import ADMIN, PASSWORD, cookie_of, local, person, sign_in
from tests.api.test_conventions import error
from tests.api.world import World

LOGIN = "/auth/login/local"


async def test_signing_in_and_out(guarded: World) -> None:
    await local(guarded)
    answer = await sign_in(guarded, " RITA@acme.example ")
    assert answer.status_code == 200
    user = answer.json()["user"]
    assert user["email"] == user["external_id"] == "rita@acme.example"
    assert user["provider"] == "local"
    assert user["last_login_at"]
    assert "password" not in answer.text
    [header] = answer.headers.get_list("set-cookie")
    value, *attributes = header.split("; ")
    name, _, cookie = value.partition("=")
    assert name == "gocdnext_session"
    assert len(cookie) == 64
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Lax", "Expires=Wed, 29 Apr 2026 13:00:00 GMT"}
    session = await guarded.db.fetchrow("SELECT * FROM user_sessions")
    assert session is not None
    assert session["id"] == hashlib.sha256(cookie.encode()).digest()
    headers = cookie_of(answer)
    assert (await guarded.http.get("/api/v1/me", headers=headers)).json()["user"]["id"] == user["id"]
    for _ in range(2):
        left = await guarded.http.post("/auth/logout", headers=headers)
        assert left.status_code == 204
        [header] = left.headers.get_list("set-cookie")
        assert header.startswith("gocdnext_session=;")
        assert "Max-Age=0" in header
    gone = await guarded.http.get("/api/v1/me", headers=headers)
    assert error(gone, 401) == "not authenticated"
    assert "Max-Age=0" in gone.headers["set-cookie"]
    assert (await guarded.http.post("/auth/logout")).status_code == 204


async def test_a_session_ends_after_a_day_whatever_happens(guarded: World) -> None:
    await local(guarded)
    headers = cookie_of(await sign_in(guarded))
    for hours, status in ((12, 200), (11, 200), (1, 401)):
        guarded.now += timedelta(hours=hours)
        assert (await guarded.http.get("/api/v1/me", headers=headers)).status_code == status


async def test_a_bearer_token_that_is_good_for_nothing_leaves_the_cookie(guarded: World) -> None:
    await local(guarded)
    admin = await person(guarded, "admin")
    cookie = cookie_of(await sign_in(guarded))
    bad = {**cookie, "Authorization": f"Bearer {tokens.make(for_service_account=False).plaintext}"}
    assert (await guarded.http.get("/api/v1/me", headers=bad)).json()["user"]["role"] == "maintainer"
    good = {**cookie, **admin.headers}
    assert (await guarded.http.get("/api/v1/me", headers=good)).json()["user"]["role"] == "admin"


async def test_a_session_that_was_there_before_is_no_session_afterwards(guarded: World) -> None:
    """Session fixation: the cookie is always new, and the one that a stranger may know has ended."""
    await local(guarded)
    planted = await sign_in(guarded)
    async with httpx.AsyncClient(base_url=guarded.base) as browser:
        body = {"email": "rita@acme.example", "password": PASSWORD}
        answer = await browser.post(LOGIN, json=body, headers=cookie_of(planted))
    assert cookie_of(answer) != cookie_of(planted)
    assert (await guarded.http.get("/api/v1/me", headers=cookie_of(planted))).status_code == 401
    async with httpx.AsyncClient(base_url=guarded.base) as browser:
        chosen = {"Cookie": f"{tokens.COOKIE}={'c' * 64}"}
        answer = await browser.post(LOGIN, json=body, headers=chosen)
    assert cookie_of(answer) != chosen
    assert (await guarded.http.get("/api/v1/me", headers=chosen)).status_code == 401


async def test_an_account_has_a_bounded_number_of_sessions(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gocdnext.auth.sessions.MOST", 2)
    await local(guarded)
    cookies = []
    for _ in range(3):
        cookies.append(cookie_of(await sign_in(guarded)))
        guarded.now += timedelta(seconds=1)
    states = [(await guarded.http.get("/api/v1/me", headers=cookie)).status_code for cookie in cookies]
    assert states == [401, 200, 200]


async def test_an_unknown_account_costs_and_says_the_same_as_a_known_one(guarded: World) -> None:
    await local(guarded)
    await guarded.http.post(LOGIN, json={"email": "warm@acme.example", "password": "up the dummy"})
    hasher = guarded.identity.hasher
    answers = []
    for email in ("rita@acme.example", "nobody@acme.example"):
        before = hasher.checks
        answers.append(await guarded.http.post(LOGIN, json={"email": email, "password": "wrong password"}))
        assert hasher.checks == before + 1
    known, unknown = answers
    assert error(known, 401) == error(unknown, 401) == "invalid email or password"
    of_each = ("date", "x-request-id")
    assert {name: value for name, value in known.headers.items() if name not in of_each} == {
        name: value for name, value in unknown.headers.items() if name not in of_each
    }


async def test_the_work_for_nobody_is_that_for_somebody(guarded: World) -> None:
    hasher = guarded.identity.hasher
    assert not await hasher.verify("anything", None)
    assert passwords.is_current(hasher._nobody)
    assert passwords.is_current(await hasher.hash("anything"))


async def test_an_account_of_a_provider_has_no_password(guarded: World) -> None:
    await guarded.db.execute(
        "INSERT INTO users (email, provider, external_id, role)"
        " VALUES ('omar@acme.example', 'github', 'omar@acme.example', 'admin')"
    )
    error(await guarded.http.post(LOGIN, json={"email": "omar@acme.example", "password": ""}), 400)
    error(await guarded.http.post(LOGIN, json={"email": "omar@acme.example", "password": "12345678"}), 401)


async def test_what_is_refused_of_a_sign_in(guarded: World) -> None:
    for body, message in (
        (b"", "invalid JSON body"),
        (b"[1]", "invalid JSON body"),
        (b'{"email": 1, "password": "secret-word"}', "invalid JSON body"),
        (b"{}", "email and password required"),
        (b'{"email": "a@b.c"}', "email and password required"),
        (b'{"email": "a@b.c", "password": null}', "email and password required"),
        (b'{"email": "a b", "password": "x"}', "one word"),
        (b'{"email": "a\\u0000", "password": "x"}', "one word"),
        (b'{"email": "a@b.c", "password": "' + b"x" * 33_000 + b'"}', "larger than 32768"),
    ):
        said = error(await guarded.http.post(LOGIN, content=body), 400)
        assert message in said
        assert "secret-word" not in said


async def test_the_sixth_try_is_locked_out(guarded: World) -> None:
    await local(guarded)
    for _ in range(5):
        assert (await sign_in(guarded, password="wrong password")).status_code == 401
    before = guarded.identity.hasher.checks
    locked = await sign_in(guarded, "Rita@ACME.example")
    assert error(locked, 429) == "too many attempts; try again later"
    assert guarded.identity.hasher.checks == before
    assert (await sign_in(guarded, "other@acme.example")).status_code == 401
    guarded.now += timedelta(minutes=10)
    assert (await sign_in(guarded)).status_code == 200


async def test_many_tries_at_once_are_no_more_than_five(guarded: World) -> None:
    await local(guarded)
    states: list[int] = []

    async def one() -> None:
        states.append((await sign_in(guarded, password="wrong password")).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(one)
    assert sorted(states) == [401] * 5 + [429] * 7


async def test_a_flood_of_sign_ins_is_bounded_work(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAITING", 3)
    states: list[int] = []
    running, most = [0], [0]

    def work(password: str, stored: bytes) -> bool:
        running[0] += 1
        most[0] = max(most[0], running[0])
        gate.wait()
        running[0] -= 1
        return False

    import threading

    gate = threading.Event()
    await guarded.identity.hasher.verify("x", None)
    monkeypatch.setattr(passwords, "verify_now", work)

    async def one(number: int) -> None:
        answer = await guarded.http.post(LOGIN, json={"email": f"u{number}@acme.example", "password": "12345678"})
        states.append(answer.status_code)
        if states.count(503) == 5:
            # Meanwhile others are served.
            assert (await guarded.http.get("/api/v1/runs", headers=ADMIN)).status_code == 200
            gate.set()

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(one, number)
    assert sorted(states) == [401] * 5 + [503] * 5
    assert most[0] <= passwords.AT_ONCE
    # Who was turned away has not used up a try.
    monkeypatch.undo()
    assert sum(len(tries) for tries in guarded.identity.lockout._tries.values()) == 5


async def test_role_changes_and_disabling_end_sessions_and_tokens_at_once(guarded: World) -> None:
    user = await local(guarded)
    path = f"/api/v1/admin/users/{user['id']}"
    cookie = cookie_of(await sign_in(guarded))
    made = await guarded.http.post("/api/v1/account/api-tokens", json={"name": "x"}, headers=cookie)
    token = {"Authorization": f"Bearer {made.json()['plaintext']}"}

    async def states() -> tuple[int, int]:
        return (
            (await guarded.http.get("/api/v1/me", headers=cookie)).status_code,
            (await guarded.http.get("/api/v1/me", headers=token)).status_code,
        )

    assert await states() == (200, 200)
    answer = await guarded.http.put(f"{path}/role", json={"role": "viewer"}, headers=ADMIN)
    assert answer.json()["role"] == "viewer"
    # The session is over; the token acts with the role that its owner has now.
    assert await states() == (401, 200)
    assert error(await guarded.http.post("/api/v1/projects/apply", json={}, headers=token), 403) == "forbidden"
    cookie = cookie_of(await sign_in(guarded))
    assert await states() == (200, 200)
    assert (await guarded.http.post(f"{path}/disable", json={"disabled": True}, headers=ADMIN)).status_code == 204
    assert await states() == (401, 401)
    assert error(await sign_in(guarded), 403) == "account disabled"
    assert (await sign_in(guarded, password="wrong password")).status_code == 401
    assert (await guarded.http.post(f"{path}/disable", json={"disabled": False}, headers=ADMIN)).status_code == 204
    assert await states() == (401, 200)
    assert (await guarded.http.delete(path, headers=ADMIN)).status_code == 204
    assert await states() == (401, 401)
    assert await guarded.db.fetchval("SELECT count(*) FROM user_sessions") == 0


async def test_an_account_that_is_shut_out_by_hand_loses_its_session(guarded: World) -> None:
    """Other programs only have the row (contract-admin 1.3): the cookie is taken back and the session is over for good."""
    await local(guarded)
    cookie = cookie_of(await sign_in(guarded))
    await guarded.db.execute("UPDATE users SET disabled_at = now()")
    answer = await guarded.http.get("/api/v1/me", headers=cookie)
    assert error(answer, 401) == "not authenticated"
    assert "Max-Age=0" in answer.headers["set-cookie"]
    await guarded.db.execute("UPDATE users SET disabled_at = NULL")
    guarded.identity.callers.forget()
    assert (await guarded.http.get("/api/v1/me", headers=cookie)).status_code == 401


async def test_an_old_hash_is_verified_and_replaced(guarded: World) -> None:
    """As the reference's command line writes it (contract-admin 17.2); `user` counts as maintainer."""
    made = oldhash._library()
    assert made is not None, "this machine has no libcrypt"
    old = made.crypt_r(PASSWORD.encode(), b"$2b$04$abcdefghijklmnopqrstuu", _scratch())
    await guarded.db.execute(
        "INSERT INTO users (email, name, avatar_url, provider, external_id, role, password_hash, updated_at)"
        " VALUES ($1, 'Old', '', 'local', $1, 'user', $2, now()) ON CONFLICT (provider, external_id)"
        " DO UPDATE SET password_hash = excluded.password_hash",
        "old@acme.example",
        old,
    )
    assert (await sign_in(guarded, "old@acme.example", "wrong password")).status_code == 401
    answer = await sign_in(guarded, "old@acme.example")
    assert answer.status_code == 200
    assert answer.json()["user"]["role"] == "maintainer"
    stored = await guarded.db.fetchval("SELECT password_hash FROM users WHERE email = 'old@acme.example'")
    assert passwords.is_current(stored)
    assert (await sign_in(guarded, "old@acme.example")).status_code == 200


def _scratch() -> object:
    import ctypes

    return ctypes.create_string_buffer(256 * 1024)


async def test_changing_ones_password(guarded: World) -> None:
    await local(guarded)
    cookie = cookie_of(await sign_in(guarded))

    async def change(current: str, new: str) -> httpx.Response:
        body = {"current_password": current, "new_password": new}
        return await guarded.http.post("/api/v1/me/password", json=body, headers=cookie)

    assert error(await change("wrong password", "another password"), 401) == "current password incorrect"
    assert "minimum 8" in error(await change(PASSWORD, "short"), 400)
    assert "maximum 512" in error(await change(PASSWORD, "x" * 513), 400)
    error(await change("", "another password"), 400)
    assert (await change(PASSWORD, "p" * 512)).status_code == 204
    assert (await guarded.http.get("/api/v1/me", headers=cookie)).status_code == 200
    assert (await sign_in(guarded)).status_code == 401
    assert (await sign_in(guarded, password="p" * 512)).status_code == 200
    for _ in range(5):
        await change("wrong password", "another password")
    assert (await change("p" * 512, "another password")).status_code == 429
    assert "only for local" in error(await guarded.http.post("/api/v1/me/password", json={}, headers=ADMIN), 403)


async def test_preferences(guarded: World) -> None:
    path, someone = "/api/v1/account/preferences", await person(guarded, "viewer")

    async def put(content: bytes) -> httpx.Response:
        return await guarded.http.put(path, content=content, headers=someone.headers)

    assert (await guarded.http.get(path, headers=someone.headers)).json() == {"preferences": {}}
    document = {"hidden_projects": ["6a0c1c4e-7c55-4f0f-8a33-0f6f6a0f2b10"], "theme": {"dark": True}}
    answer = await guarded.http.put(path, json={"preferences": document}, headers=someone.headers)
    assert answer.json() == {"preferences": document, "updated_at": "2026-04-28T13:00:00Z"}
    assert (await guarded.http.get(path, headers=someone.headers)).json() == answer.json()
    for bad in (
        b"x",
        b'{"preferences": []}',
        b'{"preferences": {"hidden_projects": "x"}}',
        b'{"preferences": {"hidden_projects": ["x"]}}',
        b'{"preferences": {"hidden_projects": null}}',
        b'{"preferences": {"a": "' + b"x" * 65536 + b'"}}',
    ):
        error(await put(bad), 400)
    error(await put(b'{"preferences": {"a": "\\u0000"}}'), 400)
    assert (await put(b"null")).json()["preferences"] == {}


async def test_which_ways_in_there_are(guarded: World) -> None:
    answer = await guarded.http.get("/auth/providers")
    assert answer.json() == {"enabled": False, "providers": [], "local_enabled": False}
    assert error(await guarded.http.get(LOGIN), 404) == "unknown provider"
    await local(guarded)
    answer = await guarded.http.get("/auth/providers")
    assert answer.json() == {"enabled": True, "providers": [], "local_enabled": True}


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ("/runs?x=1", "/login?next=/runs%3Fx%3D1"),
        ("", "/login?next=/"),
        ("https://evil.example/", "/login?next=/"),
        ("//evil.example/", "/login?next=/"),
        ("/\\evil.example/", "/login?next=/"),
        ("/\tevil", "/login?next=/"),
        ("/a\r\nSet-Cookie: x=y", "/login?next=/"),
        ("javascript:alert(1)", "/login?next=/"),
    ],
)
async def test_no_open_redirect(guarded: World, said: str, target: str) -> None:
    await local(guarded)
    answer = await guarded.http.get(LOGIN, params={"next": said})
    assert answer.status_code == 302
    assert answer.headers["location"] == target
    assert "set-cookie" not in answer.headers


OTHER_SITES = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": "nonsense"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "HOST"},
    {"Sec-Fetch-Site": "nonsense"},
]
OUR_PAGES = [
    {},
    {"Origin": "HOST"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "HOST"},
    {"Sec-Fetch-Site": "none"},
]


def sent(world: World, headers: dict[str, str]) -> dict[str, str]:
    return {name: world.base if value == "HOST" else value for name, value in headers.items()}


@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
async def test_other_sites_cannot_write_with_our_cookie(guarded: World, headers: dict[str, str]) -> None:
    await local(guarded, role="admin")
    cookie = cookie_of(await sign_in(guarded))
    theirs = {**cookie, **sent(guarded, headers)}
    for verb, path in (
        ("POST", "/api/v1/projects/apply"),
        ("POST", "/api/v1/account/api-tokens"),
        ("PUT", "/api/v1/account/preferences"),
        ("DELETE", "/api/v1/admin/users/6a0c1c4e-7c55-4f0f-8a33-0f6f6a0f2b10"),
        ("POST", "/auth/logout"),
        ("POST", LOGIN),
        ("POST", "/auth/setup"),
    ):
        assert "another site" in error(await guarded.http.request(verb, path, headers=theirs, json={}), 403)
    # Reading is not writing; and a token is nothing that a page can make a browser send.
    assert (await guarded.http.get("/api/v1/me", headers=theirs)).status_code == 200
    answer = await guarded.http.post(
        "/api/v1/admin/groups", json={"name": "g"}, headers={**sent(guarded, headers), **ADMIN}
    )
    assert answer.status_code == 201


@pytest.mark.parametrize("headers", OUR_PAGES, ids=str)
async def test_our_own_pages_can(guarded: World, headers: dict[str, str]) -> None:
    await local(guarded)
    cookie = cookie_of(await sign_in(guarded))
    answer = await guarded.http.post(
        "/api/v1/account/api-tokens", json={"name": "x"}, headers={**cookie, **sent(guarded, headers)}
    )
    assert answer.status_code == 201


async def test_the_first_admin_needs_the_code(guarded: World) -> None:
    spent: list[bool] = []
    guarded.identity.setup_code = SetupCode("ABCD-EFGH", lambda: spent.append(True))
    assert (await guarded.http.get("/auth/providers")).json()["setup_required"] is True
    body = {"email": "Admin@acme.example", "name": "Ada", "password": PASSWORD}
    for code in ("", "ABCD", "ABCD-EFGX", "\N{GRINNING FACE}", "ü"):
        assert "wrong set-up code" in error(await guarded.http.post("/auth/setup", json={**body, "code": code}), 403)
    assert guarded.identity.hasher.checks == 0
    error(await guarded.http.post("/auth/setup", json={**body, "code": "abcdefgh", "password": "short"}), 400)
    assert not spent
    states: list[int] = []
    cookies: list[dict[str, str]] = []

    async def take(number: int) -> None:
        async with httpx.AsyncClient(base_url=guarded.base, timeout=60) as browser:
            email = f"a{number}@acme.example"
            answer = await browser.post("/auth/setup", json={**body, "email": email, "code": "abcd efgh"})
        states.append(answer.status_code)
        if answer.status_code == 201:
            cookies.append(cookie_of(answer))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(take, number)
    assert sorted(states) == [201, 409, 409]
    assert spent == [True]
    assert (await guarded.http.get("/api/v1/me", headers=cookies[0])).json()["user"]["role"] == "admin"
    assert (await guarded.http.get("/auth/providers")).json().get("setup_required") is None
    error(await guarded.http.post("/auth/setup", json={**body, "code": "ABCD-EFGH"}), 409)


async def test_without_authentication_there_is_nobody(world: World) -> None:
    for verb, path in (
        ("GET", "/api/v1/me"),
        ("POST", "/api/v1/me/password"),
        ("GET", "/api/v1/account/preferences"),
        ("PUT", "/api/v1/account/preferences"),
        ("GET", "/api/v1/account/api-tokens"),
        ("POST", "/api/v1/account/api-tokens"),
    ):
        assert error(await world.http.request(verb, path, json={}), 401) == "not authenticated"
    body = {"email": "a@b.c", "name": "A", "password": PASSWORD, "role": "viewer"}
    assert (await world.http.post("/api/v1/admin/users", json=body)).status_code == 201
    assert (await world.http.get("/auth/providers")).json()["enabled"] is False
    assert (await sign_in(world, "a@b.c")).status_code == 200
    error(await world.http.post("/auth/setup", json={}), 409)


async def test_passwords_are_in_no_log_and_no_answer(
    guarded: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    await local(guarded)
    word = "a-very-secret-word"
    answers = [
        await sign_in(guarded, password=word),
        await sign_in(guarded),
        await guarded.http.post(LOGIN, content=f'{{"email": "x", "password": "{word}'.encode()),
        await guarded.http.post("/api/v1/admin/users", json={"email": "x", "password": word}, headers=ADMIN),
        await guarded.http.get("/api/v1/admin/users", headers=ADMIN),
    ]
    out, err = capfd.readouterr()
    seen = caplog.text + out + err + "".join(answer.text + str(answer.headers) for answer in answers)
    assert word not in seen
    assert PASSWORD not in seen
    assert "argon2" not in seen
    stored = str([dict(row) for row in await guarded.db.fetch("SELECT * FROM users")])
    assert word not in stored
