"""What clients send by mistake or on purpose: every route refuses it in JSON, with a status that says whose fault it is,
and goes on serving (issue 7)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from uuid import uuid4

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trio
from werkzeug.routing import Rule

from tests.api.test_conventions import error, talk
from tests.api.world import World

UNKNOWN = str(uuid4())
NUMBERS = (
    # path, parameter, least, most that is not refused
    ("/api/v1/projects", "limit", 1, 2**31 - 1),
    ("/api/v1/projects", "offset", 0, 2**63 - 1),
    ("/api/v1/projects/billing", "runs", 1, 2**31 - 1),
    ("/api/v1/runs", "limit", 1, 2**31 - 1),
    ("/api/v1/runs", "offset", 0, 2**63 - 1),
    (f"/api/v1/runs/{UNKNOWN}", "logs", 0, 2**31 - 1),
    (f"/api/v1/runs/{UNKNOWN}", "head", 0, 2**31 - 1),
    (f"/api/v1/runs/{UNKNOWN}/artifacts", "limit", 1, 2**31 - 1),
    (f"/api/v1/runs/{UNKNOWN}/artifacts", "offset", 0, 2**63 - 1),
    (f"/api/v1/runs/{UNKNOWN}/services", "limit", 1, 2**31 - 1),
    (f"/api/v1/runs/{UNKNOWN}/services", "offset", 0, 2**63 - 1),
    (f"/api/v1/runs/{UNKNOWN}/coverage", "limit", 1, 2**31 - 1),
    (f"/api/v1/runs/{UNKNOWN}/tests", "offset", 0, 2**63 - 1),
    ("/api/v1/tests/history?name=a", "limit", 1, 2**31 - 1),
    ("/api/v1/agents", "limit", 1, 2**31 - 1),
    ("/api/v1/agents", "offset", 0, 2**63 - 1),
    (f"/api/v1/agents/{UNKNOWN}", "jobs", 1, 2**31 - 1),
    ("/api/v1/plugins", "limit", 1, 2**31 - 1),
    ("/api/v1/plugins", "offset", 0, 2**63 - 1),
)
DEEP = b'{"triggered_by":' + b"[" * 1000 + b"]" * 1000 + b"}"
BODIES = (
    b"null",
    b"[]",
    b"17",
    b'"text"',
    b"true",
    b"{",
    b'{"triggered_by"',
    b'{"triggered_by":7,"slug":7,"comment":7}',
    DEEP,
    b'{"triggered_by":"\xff\xfe"}',
    b"\xff\xfe{}",
    b"{'single': 1}",
    b"NaN",
)
OPTIONAL = (
    f"/api/v1/runs/{UNKNOWN}/rerun",
    f"/api/v1/pipelines/{UNKNOWN}/trigger",
    f"/api/v1/job_runs/{UNKNOWN}/rerun",
)
HOSTILE = (
    "..",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%00",
    "a%00b",
    "%ff",
    "%0d%0aX-Injected:1",
    "'",
    "\u202e",
    "x" * 5000,
)


async def test_every_number_of_the_query_at_its_bounds_and_past_them(world: World) -> None:
    await world.apply()
    for path, name, least, most in NUMBERS:
        sign = "&" if "?" in path else "?"
        for value in (least, most, "", f"+{least}"):
            answer = await world.http.get(f"{path}{sign}{name}={str(value).replace('+', '%2B')}")
            assert answer.status_code in (200, 404), (path, name, value, answer.text)
        for value in (least - 1, most + 1, -(2**63), 10**30, "x", "1.0", "1e3", "0x10", "1_0", "\u0661", "%20", "1%00"):
            answer = await world.http.get(f"{path}{sign}{name}={value}")
            error(answer, 400)
    for value in ("0", "-1", "x", "201", str(10**30)):
        # contract-runs 6.3: the one limit that is never refused.
        answer = await world.http.get(f"/api/v1/pipelines/{UNKNOWN}/coverage-trend", params={"limit": value})
        assert answer.json() == {"points": []}


async def test_bodies_that_are_not_what_they_should_be(world: World) -> None:
    for path, body in itertools.product((*OPTIONAL, "/api/v1/projects/apply"), BODIES):
        answer = await world.http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert error(answer, 400), (path, body)
    for body in (b"", b"  ", b"{}", b'{"unknown":{"a":[1]}}', b'{"triggered_by":"a","triggered_by":"b"}'):
        for path in OPTIONAL:
            assert "not found" in error(await world.http.post(path, content=body), 404)
    for path in OPTIONAL:
        assert "read body" in error(await world.http.post(path, content=b" " * (64 * 1024 + 1)), 400)
        assert "invalid JSON body" in error(await world.http.post(path, content=b"{} {}"), 400)
    # A decision on a gate takes anything for its comment: the web sends no body at all (contract-runs 4.3).
    for body in (b"", *BODIES):
        for verb in ("approve", "reject"):
            answer = await world.http.post(f"/api/v1/job_runs/{UNKNOWN}/{verb}", content=body)
            assert error(answer, 404) == "approval gate not found"
    assert error(await world.http.post("/api/v1/projects/apply"), 400).startswith("invalid json")


async def test_a_content_type_that_lies(world: World) -> None:
    """What is not a form counts as JSON (contract-runs 2.4), and a form that is none says so."""
    body = b'{"slug":"lied"}'
    for said in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "image/png",
        "application/json; charset=utf-16",
        "",
    ):
        answer = await world.http.post("/api/v1/projects/apply", content=body, headers={"Content-Type": said})
        assert answer.status_code == 200, (said, answer.text)
    for said in ("multipart/form-data", "multipart/form-data; boundary=x", 'multipart/form-data; boundary="\u00e9"'):
        answer = await world.http.post("/api/v1/projects/apply", content=body, headers={"Content-Type": said.encode()})
        assert "multipart" in error(answer, 400)


async def test_the_last_of_two_equal_keys_counts(world: World) -> None:
    answer = await world.http.post("/api/v1/projects/apply", content=b'{"slug":"first","slug":"second"}')
    assert answer.json()["project_slug"] == "second"


def rules(world: World) -> Iterator[tuple[str, Rule]]:
    """Every verb of every route that has something in its path."""
    assert world.app is not None
    for rule in world.app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
            yield method, rule


async def test_nothing_in_a_path_is_more_than_a_name(world: World) -> None:
    await world.apply()
    for method, rule in rules(world):
        if not rule.arguments:
            continue
        for part in HOSTILE:
            path = rule.rule
            for name in rule.arguments:
                path = path.replace(f"<{name}>", part)
            answer = await _raw(world, method, path)
            status = int(answer[9:12])
            assert status in (302, 303, 400, 401, 403, 404, 405, 409, 414, 422, 431, 503) or method == "PUT", (
                path,
                answer[:300],
            )
            assert status != 500, (method, path)
            assert b"X-Injected" not in answer.partition(b"\r\n\r\n")[0]
            assert b"root:" not in answer
    assert (await world.http.get("/api/v1/projects")).json()["projects"]


async def _raw(world: World, method: str, path: str) -> bytes:
    """An answer to a path exactly as it is written: a client library would tidy it up."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    return await talk(world, head.encode())


async def test_floods_of_headers(world: World) -> None:
    many = "".join(f"X-{number}: y\r\n" for number in range(5000))
    for head in (many, "Cookie: " + "a=b;" * 20_000 + "\r\n", "X: " + "y" * 40_000, "X" * 40_000):
        said = await talk(world, f"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n".encode())
        # What comes in one piece of at most 64 KiB may still be read; there is never more of it in memory.
        assert said[9:12] in (b"200", b"400", b"431"), said[:200]
    said = await talk(world, ("GET /" + "x" * 40_000 + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").encode())
    assert said[9:12] in (b"400", b"404", b"414", b"431"), said[:200]
    for head in (
        "Host: y\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: -1\r\n",
        "Bad Name: x\r\n",
        "X: a\x00b\r\n",
    ):
        said = await talk(world, f"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n".encode())
        assert said[9:12] == b"400", (head, said[:200])
    assert (await world.http.get("/healthz")).status_code == 200


async def test_a_body_of_a_byte_at_a_time(world: World) -> None:
    """The whole body has a deadline, so patience does not keep a request open."""
    assert world.app is not None
    world.app.config["BODY_TIMEOUT"] = 0.2
    head = b"POST /api/v1/projects/apply HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    for start, piece in (
        (b"Content-Length: 100000\r\n\r\n", b" "),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ):
        with trio.fail_after(20):
            async with await trio.open_tcp_stream("127.0.0.1", world.port) as stream, trio.open_nursery() as nursery:
                await stream.send_all(head + start)

                async def drip(stream: trio.SocketStream = stream, piece: bytes = piece) -> None:
                    while True:
                        try:
                            await stream.send_all(piece)
                        except trio.BrokenResourceError:
                            return
                        await trio.sleep(0.02)

                nursery.start_soon(drip)
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 408")
                nursery.cancel_scope.cancel()
    assert (await world.http.get("/healthz")).status_code == 200


async def test_http_2_with_prior_knowledge(world: World) -> None:
    """Both a client that speaks it well and one that stops after the preface."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    headers = [(":method", "GET"), (":path", "/api/v1/projects"), (":scheme", "http"), (":authority", "x")]
    client.send_headers(1, headers, end_stream=True)
    body, status = b"", ""
    with trio.fail_after(20):
        async with await trio.open_tcp_stream("127.0.0.1", world.port) as stream:
            await stream.send_all(client.data_to_send())
            ended = False
            while not ended and (data := await stream.receive_some()):
                for event in client.receive_data(data):
                    if isinstance(event, h2.events.ResponseReceived):
                        status = dict(event.headers)[":status"]
                    elif isinstance(event, h2.events.DataReceived):
                        body += event.data
                    elif isinstance(event, h2.events.StreamEnded):
                        ended = True
                await stream.send_all(client.data_to_send())
    assert (status, body) == ("200", b'{"projects":[]}')
    for junk in (
        b"PRI * HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    ):
        await _leave(world, junk)
    assert (await world.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("share", [0.3, 0.8, 1.0])
async def test_a_client_that_leaves_in_the_middle_of_any_request(world: World, share: float) -> None:
    await world.apply()
    body = DEEP
    for method, rule in rules(world):
        path = rule.rule
        for name in rule.arguments:
            path = path.replace(f"<{name}>", UNKNOWN)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        sent = head + body
        await _leave(world, sent[: int(len(sent) * share)])
    with trio.fail_after(20):
        assert (await world.http.get("/api/v1/projects")).json()["projects"][0]["slug"] == "billing"


async def _leave(world: World, sent: bytes) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", world.port) as stream:
        await stream.send_all(sent)


async def test_security_findings_have_their_shape(world: World) -> None:
    found = await world.http.get(f"/api/v1/runs/{UNKNOWN}/security-findings")
    assert found.json() == {
        "has_scans": False,
        "delta_available": False,
        "unbaselined_series": 0,
        "critical": 0,
        "high": 0,
        "medium": 0,
        "low": 0,
        "open_total": 0,
        "accepted": 0,
        "new_in_change": [],
    }
    refused: httpx.Response = await world.http.get("/api/v1/runs/x/security-findings")
    assert error(refused, 400) == "invalid id"
