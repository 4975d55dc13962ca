"""What holds for every route: errors are JSON, verbs, CORS, bounds, roles, negotiation (contract-runs 0 and 10)."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trio

from gocdnext.api import listen
from gocdnext.api.app import BLUEPRINTS, Application
from gocdnext.auth import roles
from gocdnext.auth.identity import Subject
from tests.api.world import TOKEN, World, served
from tests.postgres_fixture import running_server

ID = str(uuid4())


def error(answer: httpx.Response, status: int) -> str:
    """The message of an error answer, after the checks that hold for every one of them."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["error"]
    return str(body["error"])


async def test_unknown_path_and_verb(world: World) -> None:
    for path in ("/", "/nope", "/api/v1/nope", "/api/v1/projects/", "/api/v1//projects", "/api/v1/projects/a/b"):
        assert error(await world.http.get(path), 404) == "404 page not found"
    answer = await world.http.put("/api/v1/projects/apply")
    assert error(answer, 405) == "method not allowed"
    assert {verb.strip() for verb in answer.headers["allow"].split(",")} == {"GET", "POST", "DELETE"}
    answer = await world.http.put("/api/v1/runs")
    assert answer.headers["allow"] == "GET"
    assert (await world.http.head("/api/v1/runs")).status_code == 405


async def test_nul_bytes_in_the_address(world: World) -> None:
    error(await world.http.get("/api/v1/projects/a%00b"), 400)
    error(await world.http.get("/api/v1/runs?status=%00"), 400)
    error(await world.http.get("/api/v1/projects/%ff%fe"), 404)


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/runs", "/nope"])
async def test_cors(world: World, path: str) -> None:
    answer = await world.http.get(path)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    answer = await world.http.get(path, headers={"Origin": "http://localhost:3000"})
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Origin" in answer.headers["vary"]
    for foreign in ("https://evil.example", "null", "http://localhost.evil.example", "http://[::1", "file://"):
        other = await world.http.get(path, headers={"Origin": foreign})
        assert other.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in other.headers
        assert "Origin" in other.headers["vary"]
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE, OPTIONS"
    assert "Authorization" in answer.headers["access-control-allow-headers"]


async def test_options_is_answered_before_authentication(guarded: World) -> None:
    for path in ("/api/v1/runs", "/api/v1/projects/apply", "/nope"):
        answer = await guarded.http.options(path, headers={"Origin": "http://localhost:3000"})
        assert answer.status_code == 204
        assert answer.content == b""
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_every_route_has_a_role_and_nothing_else_is_served() -> None:
    app = Application("test", static_folder=None)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    served = {f"{method} {rule.rule}" for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    assert served == set(roles.MINIMUM)
    with pytest.raises(LookupError, match="say who may call it"):
        roles.minimum("GET", "/api/v1/forgotten")


async def test_health_and_version(world: World) -> None:
    for path, word in (("/healthz", "ok"), ("/readyz", "ready")):
        answer = await world.http.get(path)
        assert (answer.status_code, answer.text) == (200, word)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        answer = await world.http.get(path, headers={"Accept": "application/json"})
        assert answer.json() == {"status": word}
        answer = await world.http.get(path, headers={"Accept": "text/html,application/json;q=0.1,*/*;q=0.8"})
        assert answer.text == word
    assert (await world.http.get("/version")).text.startswith("gocdnext-server ")
    answer = await world.http.get("/version", headers={"Accept": "application/json"})
    assert set(answer.json()) == {"version", "commit", "build_date"}


async def test_database_away_is_503_and_never_401(tmp_path: Path) -> None:
    with running_server() as postgres:
        async with served(postgres.migrated_database(), tmp_path, auth=True) as world:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            assert (await world.http.get("/api/v1/projects", headers=headers)).status_code == 200
            await trio.to_thread.run_sync(postgres.stop)
            answer = await world.http.get("/api/v1/projects", headers=headers)
            error(answer, 503)
            assert answer.headers["retry-after"] == "5"
            answer = await world.http.get("/readyz")
            assert error(answer, 503).startswith("db unavailable: ")
            assert (await world.http.get("/healthz")).status_code == 200
            assert "gocdnext_agents_online" in (await world.http.get("/metrics")).text
            error(await world.http.get("/api/v1/projects"), 401)


async def test_unexpected_failure_is_a_json_500(world: World) -> None:
    await world.db.execute("ALTER TABLE agents RENAME TO agents_elsewhere")
    answer = await world.http.get("/api/v1/agents")
    assert error(answer, 500) == "internal error"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_body_over_the_limit(world: World) -> None:
    slug = "x" * (6 * 1024 * 1024)
    error(await world.http.post("/api/v1/projects/apply", content=json.dumps({"slug": slug})), 413)

    async def chunks() -> object:
        for _ in range(96):
            yield b" " * 65536

    error(await world.http.post("/api/v1/projects/apply", content=chunks()), 413)  # type: ignore[arg-type]
    # An answer given before the body was read arrives all the same.
    error(await world.http.post("/nope", content=slug), 404)
    assert (await world.http.get("/healthz")).status_code == 200


async def test_client_that_leaves_in_the_middle(world: World) -> None:
    head = b"POST /api/v1/projects/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    for start in (b"GET /api/v1/pro", head, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\x01\x02\r\n\r\n"):
        stream = await trio.open_tcp_stream("127.0.0.1", world.port)
        await stream.send_all(start)
        await stream.aclose()
    assert (await world.http.get("/healthz")).status_code == 200


async def test_header_that_is_too_large(world: World) -> None:
    answer = await world.http.get("/healthz", headers={"X-Big": "x" * 200_000})
    assert answer.status_code in (400, 431)
    assert (await world.http.get("/healthz")).status_code == 200


async def talk(world: World, sent: bytes) -> bytes:
    """What the server says to these bytes until it closes the connection."""
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", world.port) as stream:
            await stream.send_all(sent)
            return b"".join([piece async for piece in stream])


async def test_old_and_eager_clients(world: World) -> None:
    said = await talk(world, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    assert said.endswith(b"ok")
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    said = await talk(world, one + one + last)
    assert said.count(b"HTTP/1.1 200") == 2
    assert said.count(b"HTTP/1.1 404") == 1
    assert (await talk(world, b"GET / HTTP/9\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert (await talk(world, b"GET /healthz HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400")


async def test_body_that_never_ends(world: World) -> None:
    assert world.app is not None
    world.app.config["BODY_TIMEOUT"] = 0.1
    head = b"POST /api/v1/projects/apply HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    said = await talk(world, head + b"Content-Length: 99\r\n\r\n{")
    assert said.startswith(b"HTTP/1.1 408")
    assert b'{"error":"the request body did not arrive in time"}' in said
    said = await talk(world, head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
    assert said.startswith(b"HTTP/1.1 408")


async def test_address_in_use(world: World) -> None:
    with pytest.raises(listen.ListenError, match=f"cannot listen on 127.0.0.1:{world.port}: Address already in use"):
        listen.open_listener("127.0.0.1", world.port)
    with pytest.raises(listen.ListenError, match="cannot listen on"):
        listen.open_listener("host.invalid", 0)


def test_ladder_of_roles() -> None:
    viewer = Subject(name="v", role=roles.Role.VIEWER, provider="test")
    assert viewer.may(roles.Role.VIEWER)
    assert not viewer.may(roles.Role.MAINTAINER)


async def test_idle_and_dawdling_connections_are_closed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "KEEP_ALIVE", 0.1)
    async with served(database_url, tmp_path) as world:
        assert (await talk(world, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"ok")
        assert await talk(world, b"GET /healthz HTTP/1.1\r\nHos") == b""
        assert await talk(world, b"") == b""
