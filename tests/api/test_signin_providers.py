"""Signing in by way of a provider, and everything that somebody may try with it (contract-admin 1.2, 2.2 to 2.4, 15, 18.4)."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trio
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from structlog.testing import capture_logs

from gocdnext.auth.providers import signin
from gocdnext.sweepers import signins
from tests.api.crowd import ADMIN, local
from tests.api.crowd import sign_in as sign_in_locally
from tests.api.identity_provider import (
    KEY,
    ON,
    PUBLIC,
    SECRET,
    Browser,
    GitHub,
    OpenId,
    openid,
    signing_in,
)
from tests.api.test_conventions import error
from tests.api.world import World, served
from tests.counterpart import Told, as_json, counterpart
from tests.unit.auth.test_id_tokens import part

OTHER_KEY = RSAKey.generate_key(2048, {"kid": "second", "use": "sig", "alg": "RS256"})


@pytest.fixture
def database_url(emptied_database: str) -> str:
    """One for the whole module, emptied after each test."""
    return emptied_database


@pytest.fixture
async def pair(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[World, OpenId]]:
    """A server and its OpenID provider."""
    async with signing_in(database_url, tmp_path / "state") as both:
        yield both


async def count(world: World, table: str) -> int:
    found: int = await world.db.fetchval(f"SELECT count(*) FROM {table}")
    return found


def rejected(answer: httpx.Response) -> None:
    assert error(answer, 502) == "provider rejected the sign-in"
    assert "set-cookie" not in answer.headers


async def test_there_and_back(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    browser = Browser(world)
    providers = (await browser.get("/auth/providers")).json()
    assert providers == {
        "enabled": True,
        "providers": [{"name": "oidc", "display": "Single Sign-On"}],
        "local_enabled": False,
    }
    sent = await browser.get("/auth/login/oidc", next="/projects/billing?tab=runs")
    assert sent.status_code == 302
    assert sent.headers["cache-control"] == "no-store"
    url = urlsplit(sent.headers["location"])
    query = {name: value for name, [value] in parse_qs(url.query).items()}
    assert (f"{url.scheme}://{url.netloc}", url.path) == (idp.issuer, "/authorize")
    assert query["response_type"] == "code"
    assert query["client_id"] == "gocd"
    assert query["redirect_uri"] == f"{PUBLIC}/auth/callback/oidc"
    assert query["scope"] == "openid profile email"
    assert query["code_challenge_method"] == "S256"
    assert len(query["state"]) == 64
    [cookie] = sent.headers.get_list("set-cookie")
    assert cookie.startswith("gocdnext_signin_")
    for attribute in ("HttpOnly", "SameSite=Lax", "Path=/auth/callback", "Max-Age=600", "Secure"):
        assert attribute in cookie.split("; ")
    assert idp.code_for(sent.headers["location"]) == query["state"]
    back = await browser.get("/auth/callback/oidc", code="the-code", state=query["state"])
    assert (back.status_code, back.headers["location"]) == (302, "/projects/billing?tab=runs")
    assert (back.headers["cache-control"], back.headers["referrer-policy"]) == ("no-store", "no-referrer")
    [cookie] = back.headers.get_list("set-cookie")
    name, *attributes = cookie.split("; ")
    assert len(name) == len("gocdnext_session=") + 64
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Lax", "Secure", "Expires=Wed, 29 Apr 2026 13:00:00 GMT"}
    user = await browser.me()
    assert user is not None
    assert (user["email"], user["name"], user["provider"], user["external_id"], user["role"]) == (
        "rita@acme.example",
        "Rita Moss",
        "oidc",
        "00u1",
        "maintainer",
    )
    assert user["last_login_at"]
    [exchange] = idp.asked("/token")
    form = {name: value for name, [value] in parse_qs(exchange.body.decode()).items()}
    assert (form["grant_type"], form["redirect_uri"]) == ("authorization_code", f"{PUBLIC}/auth/callback/oidc")
    assert "client_secret" not in form
    assert exchange.headers["authorization"].startswith("Basic ")
    assert len(form["code_verifier"]) == 43
    event = await world.db.fetchrow("SELECT * FROM audit_events WHERE action = 'session.login'")
    assert event is not None
    assert (event["outcome"], event["target_id"]) == ("done", user["id"])


async def test_nothing_that_could_finish_a_sign_in_is_in_the_database_or_the_log(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    browser = Browser(world)
    with capture_logs() as logs:
        location = await browser.begin()
        row = await world.db.fetchrow("SELECT * FROM auth_states")
        idp.claims = {"email_verified": False}
        state = idp.code_for(location)
        rejected(await browser.get("/auth/callback/oidc", code="the-code", state=state))
    assert row is not None
    query = parse_qs(urlsplit(location).query)
    [value] = browser.cookies.values()
    for secret in (state, query["nonce"][0], value, "the-code", SECRET):
        assert secret not in str(dict(row))
        assert secret.encode() not in b"".join(each for each in row.values() if isinstance(each, bytes))
        assert secret not in str(logs)
    assert [each["why"] for each in logs if each["event"] == "a sign-in was rejected"] == ["the e-mail is not verified"]


async def test_who_becomes_what(database_url: str, tmp_path: Path) -> None:
    more = {
        "GOCDNEXT_AUTH_ADMIN_EMAILS": "boss@acme.example, Ann@Acme.example",
        "GOCDNEXT_AUTH_ALLOWED_DOMAINS": "@acme.example,Other.example",
    }
    async with signing_in(database_url, tmp_path / "state", **more) as (world, idp):

        async def arrive(sub: str, email: str, name: str = "X") -> dict[str, Any] | str:
            idp.claims = {"sub": sub, "email": email, "name": name}
            browser = Browser(world)
            answer = await browser.sign_in(idp)
            return (await browser.me() or {}) if answer.status_code == 302 else error(answer, 403)

        admin = await arrive("1", "ANN@acme.example")
        assert admin["role"] == "admin"  # type: ignore[index]
        somebody = await arrive("2", "joe@other.example")
        assert somebody["role"] == "maintainer"  # type: ignore[index]
        # The list only matters when the account is made; what the provider says of the person is brought up to date.
        later = await arrive("2", "boss@acme.example", "Joe B")
        assert (later["id"], later["role"], later["email"], later["name"]) == (  # type: ignore[index]
            somebody["id"],  # type: ignore[index]
            "maintainer",
            "boss@acme.example",
            "Joe B",
        )
        # An e-mail is nobody's account: the next one with it is somebody else.
        twin = await arrive("3", "boss@acme.example")
        assert twin["id"] != somebody["id"]  # type: ignore[index]
        for email in (
            "x@evil-acme.example",
            "x@sub.acme.example",
            "x@acme.example@evil.example",
            "x@acme.example.evil",
        ):
            assert await arrive("4", email) == "email domain not allowed"
        assert await count(world, "users") == 3
        # Who has left the domains is not let in any more, nor brought up to date.
        assert await arrive("1", "ann@gone.example") == "email domain not allowed"
        assert await world.db.fetchval("SELECT email FROM users WHERE external_id = '1'") == "ANN@acme.example"


async def test_a_local_account_is_not_opened_by_its_email(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    boss = await local(world, "boss@acme.example", "admin")
    for claims in ({"email": "boss@acme.example"}, {"sub": "boss@acme.example", "email": "boss@acme.example"}):
        idp.claims = claims
        browser = Browser(world)
        assert (await browser.sign_in(idp)).status_code == 302
        user = await browser.me()
        assert user is not None
        assert (user["role"], user["provider"]) == ("maintainer", "oidc")
        assert user["id"] != boss["id"]


async def test_a_sign_in_ends_on_this_server(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    for target in (
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/x\r\nSet-Cookie: a=b",
        "evil.example",
        "",
        "/" + "x" * 2000,
    ):
        answer = await Browser(world).sign_in(idp, next=target)
        assert (answer.status_code, answer.headers["location"]) == (302, "/"), target
        assert len(answer.headers.get_list("set-cookie")) == 1
    assert (await Browser(world).get("/auth/login/oidc", next="/\x00")).status_code == 400


async def test_a_session_that_was_there_before_is_over(pair: tuple[World, OpenId]) -> None:
    """Session fixation: what a stranger has planted, real or made up, is not what the person goes on with."""
    world, idp = pair
    await local(world)
    planted = (await sign_in_locally(world)).headers["set-cookie"].partition(";")[0].partition("=")[2]
    for value in (planted, "c" * 64):
        browser = Browser(world, {"gocdnext_session": value})
        assert (await browser.sign_in(idp)).status_code == 302
        assert browser.cookies["gocdnext_session"] != value
        assert await Browser(world, {"gocdnext_session": value}).me() is None
        assert (await browser.me() or {})["provider"] == "oidc"


async def test_the_browser_that_comes_back_is_the_one_that_began(pair: tuple[World, OpenId]) -> None:
    """Login CSRF: a victim's browser is sent to the callback with the state and the code of an attacker."""
    world, idp = pair
    attacker, victim, third = Browser(world), Browser(world), Browser(world)
    state = idp.code_for(await attacker.begin())
    await victim.begin()
    stale = "state expired or already used; retry login"
    answer = await victim.get("/auth/callback/oidc", code="the-code", state=state)
    assert error(answer, 401) == stale
    assert "set-cookie" not in answer.headers
    assert await victim.me() is None
    # It was spent with that; neither the attacker nor anybody else can use it any more.
    assert error(await attacker.get("/auth/callback/oidc", code="the-code", state=state), 401) == stale
    state = idp.code_for(await attacker.begin())
    assert error(await third.get("/auth/callback/oidc", code="the-code", state=state), 401) == stale
    # A cookie of the right name with another value.
    state = idp.code_for(await attacker.begin())
    third.cookies = {f"gocdnext_signin_{state[:16]}": "0" * 64}
    assert error(await third.get("/auth/callback/oidc", code="the-code", state=state), 401) == stale
    assert idp.asked("/token") == []


async def test_a_state_is_good_once_and_for_ten_minutes(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    browser = Browser(world)
    state = idp.code_for(await browser.begin())
    assert (await browser.get("/auth/callback/oidc", code="the-code", state=state)).status_code == 302
    stale = "state expired or already used; retry login"
    assert error(await browser.get("/auth/callback/oidc", code="the-code", state=state), 401) == stale
    state = idp.code_for(await browser.begin())
    world.now += timedelta(minutes=10)
    assert error(await browser.get("/auth/callback/oidc", code="the-code", state=state), 401) == stale
    for made_up in ("0" * 64, "x", "é", state.upper(), state + "0", "x" * 5000):
        assert error(await browser.get("/auth/callback/oidc", code="the-code", state=made_up), 401) == stale
    assert len(idp.asked("/token")) == 1


async def test_several_tabs_of_one_browser(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    browser = Browser(world)
    states = [idp.code_for(await browser.begin(next=f"/{tab}"), f"code-{tab}") for tab in range(3)]
    for tab, state in enumerate(states):
        answer = await browser.get("/auth/callback/oidc", code=f"code-{tab}", state=state)
        assert (answer.status_code, answer.headers["location"]) == (302, f"/{tab}")


async def test_what_is_missing_or_too_long(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    browser = Browser(world)
    state = idp.code_for(await browser.begin())
    for params in ({}, {"code": "x"}, {"state": state}, {"code": "", "state": state}):
        assert error(await browser.get("/auth/callback/oidc", **params), 400) == "missing code or state"
    said = await browser.get("/auth/callback/oidc", state=state, error="access_denied", error_description="<b>no</b>")
    assert error(said, 400) == "missing code or state: the provider answered access_denied"
    for text in ("<script>alert(1)</script>", "x" * 65, "a b", "é", "call 555-1234"):
        answer = await browser.get("/auth/callback/oidc", state=state, error=text)
        assert error(answer, 400) == "missing code or state"
    assert "longer than 4096" in error(await browser.get("/auth/callback/oidc", code="x" * 4097, state=state), 400)
    for route in ("login", "callback"):
        assert error(await browser.get(f"/auth/{route}/nobody", code="x", state=state), 404) == "unknown provider"
        assert error(await browser.get(f"/auth/{route}/OIDC", code="x", state=state), 404) == "unknown provider"
    assert idp.asked("/token") == []


async def test_a_code_of_a_megabyte(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    browser = Browser(world)
    state = idp.code_for(await browser.begin())
    stream = await trio.open_tcp_stream("127.0.0.1", world.port)
    async with stream:
        target = f"/auth/callback/oidc?state={state}&code={'x' * 1_000_000}"
        with contextlib.suppress(trio.BrokenResourceError):  # it need not hear all of it
            await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        said = b""
        with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(30):
            said = await stream.receive_some(64)
    assert said == b"" or said.split(b" ")[1][:1] == b"4"
    assert idp.asked("/token") == []
    # Nobody else has noticed.
    assert (await browser.get("/auth/callback/oidc", code="the-code", state=state)).status_code == 302


async def test_an_answer_of_one_provider_is_none_of_another(database_url: str, tmp_path: Path) -> None:
    """Mix-up: each provider has a callback of its own, its states, and its name for itself (RFC 9207)."""
    async with openid() as second:
        second.metadata = {"authorization_response_iss_parameter_supported": True}
        async with signing_in(database_url, tmp_path / "state", **second.environment("keycloak")) as (world, first):
            second.clock = first.clock
            browser = Browser(world)
            buttons = (await browser.get("/auth/providers")).json()["providers"]
            assert [each["name"] for each in buttons] == ["keycloak", "oidc"]
            state = first.code_for(await browser.begin("oidc"))
            answer = await browser.get("/auth/callback/keycloak", code="the-code", state=state)
            assert error(answer, 401) == "state provider mismatch"
            # Which is the end of that state.
            assert (await browser.get("/auth/callback/oidc", code="the-code", state=state)).status_code == 401
            for iss, status in ((second.issuer, 302), (first.issuer, 401), (None, 401), ("", 401)):
                state = second.code_for(await browser.begin("keycloak"))
                params = {"code": "the-code", "state": state} | ({} if iss is None else {"iss": iss})
                assert (await browser.get("/auth/callback/keycloak", **params)).status_code == status, iss
            # Where a provider does not name itself, a wrong name is still a wrong name.
            state = first.code_for(await browser.begin("oidc"))
            answer = await browser.get("/auth/callback/oidc", code="the-code", state=state, iss=second.issuer)
            assert answer.status_code == 401
            assert first.asked("/token") == []
            # The same subject at two providers is two people.
            assert (await browser.sign_in(first)).status_code == 302
            assert await count(world, "users") == 2


async def test_tokens_that_prove_nothing(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    for claims in (
        {"aud": "another"},
        {"aud": ["gocd", "another"]},
        {"iss": "https://evil.example"},
        {"exp": 1777381200 - 61},
        {"iat": 1777381200 + 61},
        {"nonce": "of-another-sign-in"},
        {"nonce": None},
        {"email_verified": False},
        {"email_verified": "false"},
        {"email_verified": 0},
        {"email_verified": "yes"},
    ):
        idp.claims = claims
        rejected(await Browser(world).sign_in(idp))
    assert await count(world, "users") == 0


def _none(claims: dict[str, Any]) -> str:
    return f"{part({'alg': 'none'})}.{part(claims)}."


def _confused(claims: dict[str, Any]) -> str:
    head = f"{part({'alg': 'HS256', 'kid': 'first'})}.{part(claims)}"
    return f"{head}.{part(hmac.digest(KEY.as_pem(private=False), head.encode(), 'sha256'))}"


def _by_client_secret(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256", "kid": "first"}, claims, OctKey.import_key(SECRET))


def _by_somebody(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "first"}, claims, OTHER_KEY)


async def test_signatures_that_prove_nothing(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    for token in (_none, _confused, _by_client_secret, _by_somebody, lambda _: "x", lambda _: ""):
        idp.token = token
        rejected(await Browser(world).sign_in(idp))
    assert await count(world, "users") == 0


async def test_the_token_of_one_sign_in_is_not_that_of_another(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    kept: list[str] = []

    def keep(claims: dict[str, Any]) -> str:
        kept.append(jwt.encode({"alg": "RS256", "kid": "first"}, claims, idp.key))
        return kept[0]

    idp.token = keep
    assert (await Browser(world).sign_in(idp)).status_code == 302
    rejected(await Browser(world).sign_in(idp))


async def test_people_without_an_email(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    idp.userinfo = {"sub": "00u1"}
    for email in (None, "", "x", "a@b\r\nX: y", 7):
        idp.claims = {"email": email}
        answer = await Browser(world).sign_in(idp)
        assert error(answer, 502) == "provider did not return full profile (email/subject missing)"


async def test_an_email_that_only_userinfo_knows(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    idp.claims = {"email": None, "email_verified": None, "name": None}
    idp.userinfo = {"sub": "00u1", "email": "rita@acme.example", "email_verified": True, "preferred_username": "rita"}
    browser = Browser(world)
    assert (await browser.sign_in(idp)).status_code == 302
    assert (await browser.me() or {})["name"] == "rita"
    for said in ({"sub": "another"}, {"email_verified": False}, {"sub": None}):
        idp.userinfo |= said
        rejected(await Browser(world).sign_in(idp))


async def test_names_do_nothing_to_headers_lists_or_terminals(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    idp.claims = {
        "name": "Rita\r\nSet-Cookie: gocdnext_session=x\x1b[2J\u202e\0",
        "picture": "javascript:alert(1)",
    }
    browser = Browser(world)
    answer = await browser.sign_in(idp)
    assert len(answer.headers.get_list("set-cookie")) == 1
    user = await browser.me()
    assert user is not None
    assert user["name"] == "Rita Set-Cookie: gocdnext_session=x [2J"
    assert "avatar_url" not in user


async def test_somebody_who_is_shut_out(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    browser = Browser(world)
    await browser.sign_in(idp)
    user = await browser.me()
    assert user is not None
    path = f"/api/v1/admin/users/{user['id']}/disable"
    assert (await world.http.post(path, json={"disabled": True}, headers=ADMIN)).status_code == 204
    assert await browser.me() is None
    idp.claims = {"email": "new@acme.example"}
    answer = await browser.sign_in(idp)
    assert error(answer, 403) == "this account is disabled"
    assert "set-cookie" not in answer.headers or "Max-Age=0" in answer.headers["set-cookie"]
    assert await world.db.fetchval("SELECT email FROM users") == "rita@acme.example"
    assert (await world.http.post(path, json={"disabled": False}, headers=ADMIN)).status_code == 204
    assert (await browser.sign_in(idp)).status_code == 302


async def test_keys_that_change(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    assert (await Browser(world).sign_in(idp)).status_code == 302
    # A new key, which the provider signs with at once.
    idp.key, idp.published = OTHER_KEY, [OTHER_KEY, *idp.published]
    assert (await Browser(world).sign_in(idp)).status_code == 302
    assert len(idp.asked("/keys")) == 2
    # A key that nobody knows is asked for once in a while, not each time that somebody makes one up.
    idp.token = _by_nobody
    for _ in range(3):
        rejected(await Browser(world).sign_in(idp))
    assert len(idp.asked("/keys")) == 2
    world.now += timedelta(seconds=10)
    rejected(await Browser(world).sign_in(idp))
    assert len(idp.asked("/keys")) == 3
    # A key that was withdrawn is good for nothing ten minutes later.
    idp.token, idp.published = None, [key for key in idp.published if key is not OTHER_KEY]
    assert (await Browser(world).sign_in(idp)).status_code == 302
    world.now += timedelta(minutes=10)
    rejected(await Browser(world).sign_in(idp))


def _by_nobody(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "made-up"}, claims, OTHER_KEY)


async def test_the_same_name_for_a_new_key(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    assert (await Browser(world).sign_in(idp)).status_code == 302
    renamed = RSAKey.import_key({**OTHER_KEY.as_dict(private=True), "kid": "first"})
    idp.key, idp.published = renamed, [renamed]
    assert (await Browser(world).sign_in(idp)).status_code == 302


async def test_keys_that_are_not_there(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    idp.down = {"/keys"}
    rejected(await Browser(world).sign_in(idp))
    idp.down = set()
    assert (await Browser(world).sign_in(idp)).status_code == 302
    # Those of before are good for an hour.
    idp.down = {"/keys"}
    world.now += timedelta(minutes=59)
    assert (await Browser(world).sign_in(idp)).status_code == 302
    world.now += timedelta(minutes=1)
    rejected(await Browser(world).sign_in(idp))


async def test_keys_that_are_no_keys(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    handle = idp.there.handler
    for told in (
        Told(200, b'{"keys": [' + b" " * 300_000 + b"]}"),
        Told(200, b"[" * 200_000),
        Told(200, b"not json"),
        Told(200, b"[]"),
        Told(200, b'{"keys": 7}'),
        Told(302, b"", {"Location": "http://169.254.169.254/keys"}),
    ):
        idp.there.handler = lambda asked, told=told: told if asked.path == "/keys" else handle(asked)
        rejected(await Browser(world).sign_in(idp))
    idp.there.handler = handle
    assert (await Browser(world).sign_in(idp)).status_code == 302


async def test_a_provider_that_refuses_a_code(pair: tuple[World, OpenId]) -> None:
    world, idp = pair
    browser = Browser(world)
    state = idp.code_for(await browser.begin())
    with capture_logs() as logs:
        rejected(await browser.get("/auth/callback/oidc", code="made-up-code", state=state))
    [line] = [each for each in logs if each["event"] == "a sign-in was rejected"]
    assert line["why"] == "the token endpoint answered 400 (invalid_grant)"
    assert len(idp.asked("/token")) == 1
    # A code is good once: a provider that breaks off is not asked twice.
    idp.down = {"/token"}
    rejected(await Browser(world).sign_in(idp))
    assert len(idp.asked("/token")) == 2


async def test_a_secret_in_the_body_where_the_provider_wants_it(database_url: str, tmp_path: Path) -> None:
    async with openid() as idp:
        idp.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
        async with served(database_url, tmp_path / "s", auth=True, variables=ON | idp.environment()) as world:
            idp.clock = lambda: world.now.timestamp()
            assert (await Browser(world).sign_in(idp)).status_code == 302
        [exchange] = idp.asked("/token")
        assert parse_qs(exchange.body.decode())["client_secret"] == [SECRET]
        assert "authorization" not in exchange.headers


async def test_github(database_url: str, tmp_path: Path) -> None:
    async with counterpart() as there:
        github = GitHub(there)
        async with served(database_url, tmp_path / "s", auth=True, variables=ON | github.environment()) as world:
            browser = Browser(world)

            async def arrive(code: str = "the-code") -> httpx.Response:
                location = await browser.begin("github")
                query = {name: value for name, [value] in parse_qs(urlsplit(location).query).items()}
                assert location.startswith(f"{there.url}/login/oauth/authorize?")
                assert query["scope"] == "read:user user:email"
                assert query["code_challenge"]
                assert "nonce" not in query
                return await browser.get("/auth/callback/github", code=code, state=query["state"])

            assert (await arrive()).status_code == 302
            user = await browser.me()
            assert user is not None
            assert (user["provider"], user["external_id"], user["email"], user["name"]) == (
                "github",
                "583231",
                "rita@acme.example",
                "Rita Moss",
            )
            assert user["avatar_url"] == "https://avatars.githubusercontent.com/u/583231?v=4"
            [form] = [parse_qs(each.body.decode()) for each in there.requests if each.method == "POST"]
            assert len(form["code_verifier"][0]) == 43
            rejected(await arrive("another-code"))
            # The address that others see is not one that was verified.
            github.user |= {"email": "boss@acme.example", "name": None}
            github.emails[1]["verified"] = False
            assert (await arrive()).status_code == 302
            user = await browser.me()
            assert user is not None
            assert (user["email"], user["name"]) == ("old@acme.example", "rmoss")
            github.emails[0]["verified"] = "true"
            incomplete = "provider did not return full profile (email/subject missing)"
            assert error(await arrive(), 502) == incomplete
            github.emails[1]["verified"] = True
            for wrong in (None, "583231", True):
                github.user["id"] = wrong
                assert error(await arrive(), 502) == incomplete
            handle = there.handler
            there.handler = lambda asked: as_json({}, 403) if asked.path.endswith("/emails") else handle(asked)
            rejected(await arrive())


async def test_github_has_no_token_for_texts(database_url: str, tmp_path: Path) -> None:
    async with counterpart() as there:
        github = GitHub(there)
        async with served(database_url, tmp_path / "s", auth=True, variables=ON | github.environment()) as world:
            for token in ("x\r\nX-Evil: 1", "é", "", 7, None):
                there.answers = [as_json({"access_token": token})]
                browser = Browser(world)
                state = parse_qs(urlsplit(await browser.begin("github")).query)["state"][0]
                rejected(await browser.get("/auth/callback/github", code="the-code", state=state))


async def test_a_provider_that_tells_nonsense_is_left_out(database_url: str, tmp_path: Path) -> None:
    async with openid() as idp:
        idp.metadata = {"issuer": "https://evil.example"}
        async with served(database_url, tmp_path / "s", auth=True, variables=ON | idp.environment()) as world:
            browser = Browser(world)
            providers = world.identity.providers
            assert providers is not None
            for metadata in (
                {"issuer": "https://evil.example"},
                {"issuer": None},
                {"authorization_endpoint": None},
                {"authorization_endpoint": "javascript:alert(1)"},
                {"token_endpoint": "file:///etc/passwd"},
                {"token_endpoint": "https://x y"},
                {"jwks_uri": "https://["},
                {"jwks_uri": 7},
                {"userinfo_endpoint": "ftp://x"},
            ):
                idp.metadata = metadata
                assert (await providers.reload()).active == [], metadata
            assert (await browser.get("/auth/providers")).json()["providers"] == []
            assert "not possible now" in error(await browser.get("/auth/login/oidc"), 503)


async def test_a_provider_that_comes_late_is_let_in_then(database_url: str, tmp_path: Path) -> None:
    async with openid() as idp:
        idp.down = {"/.well-known/openid-configuration"}
        async with served(database_url, tmp_path / "s", auth=True, variables=ON | idp.environment()) as world:
            idp.clock = lambda: world.now.timestamp()
            browser = Browser(world)
            providers = world.identity.providers
            assert providers is not None
            assert (await browser.get("/auth/providers")).json() == {
                "enabled": False,
                "providers": [],
                "local_enabled": False,
            }
            assert providers.problems == {"oidc": "discovery answered 404"}
            idp.down = set()
            assert (await providers.reload()).active == ["oidc"]
            assert (await browser.sign_in(idp)).status_code == 302
            # One that is in force stays so while it is away, also when all are asked again.
            idp.down = {"/.well-known/openid-configuration"}
            assert (await providers.reload(ask_all=True)).active == ["oidc"]
            assert (await browser.sign_in(idp)).status_code == 302


async def test_without_authentication_there_is_no_provider(database_url: str, tmp_path: Path) -> None:
    async with openid() as idp:
        variables = ON | idp.environment() | {"GOCDNEXT_AUTH_ENABLED": "false"}
        async with served(database_url, tmp_path / "s", variables=variables) as world:
            browser = Browser(world)
            assert (await browser.get("/auth/providers")).json()["providers"] == []
            assert error(await browser.get("/auth/login/oidc"), 404) == "unknown provider"
            assert idp.there.requests == []


async def test_sign_ins_under_way_are_bounded(pair: tuple[World, OpenId], monkeypatch: pytest.MonkeyPatch) -> None:
    world, idp = pair
    monkeypatch.setattr(signin, "MOST", 2)
    browser = Browser(world)
    states = []
    for tab in range(3):
        states.append(idp.code_for(await browser.begin(), f"code-{tab}"))
        world.now += timedelta(seconds=1)
    assert await count(world, "auth_states") == 2
    answers = []
    for tab, state in enumerate(states):
        answers.append((await browser.get("/auth/callback/oidc", code=f"code-{tab}", state=state)).status_code)
    assert answers == [401, 302, 302]


async def test_what_is_over_is_swept(pair: tuple[World, OpenId], monkeypatch: pytest.MonkeyPatch) -> None:
    world, idp = pair
    monkeypatch.setattr(signins, "BATCH", 1)
    early, late = Browser(world), Browser(world)
    await early.sign_in(idp)
    await early.begin()
    idp.claims = {"sub": "2"}
    await early.sign_in(idp)
    world.now += timedelta(hours=23, minutes=55)
    await late.begin()
    idp.claims = {"sub": "3"}
    await late.sign_in(idp)
    assert await signins.sweep(world.db, world.now) == 1
    world.now += timedelta(minutes=5)
    assert (await count(world, "user_sessions"), await count(world, "auth_states")) == (2, 1)
    assert await signins.sweep(world.db, world.now) == 1
    assert await signins.sweep(world.db, world.now + timedelta(days=1)) == 2
    assert (await count(world, "user_sessions"), await count(world, "auth_states")) == (0, 0)


async def test_a_provider_on_this_machine_needs_leave(database_url: str, tmp_path: Path) -> None:
    async with openid() as idp:
        variables = ON | idp.environment() | {"GOCDNEXT_OUTBOUND_ALLOW": "192.0.2.1"}
        async with served(database_url, tmp_path / "s", auth=True, variables=variables) as world:
            assert (await Browser(world).get("/auth/login/oidc")).status_code == 503
            assert idp.there.requests == []


async def test_too_many_at_once_are_told_to_come_again(
    pair: tuple[World, OpenId], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, idp = pair
    monkeypatch.setattr(signin, "WAITING", 0)
    answer = await Browser(world).sign_in(idp)
    assert "too many people" in error(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
