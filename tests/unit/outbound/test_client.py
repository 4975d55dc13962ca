"""The client of every outgoing call, against real sockets: what is refused, repeated, bounded, and never told."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from gocdnext import config
from gocdnext.outbound.client import Outbound
from gocdnext.outbound.errors import (
    BadAnswerError,
    OfflineError,
    OutboundError,
    RefusedTargetError,
    UnreachableError,
)
from gocdnext.outbound.hosts import Hosts
from gocdnext.outbound.policy import Policy
from tests.counterpart import Counterpart, Told, as_json, certificate, counterpart

NOW = datetime(2026, 4, 28, 13, 0, tzinfo=UTC)
LOOPBACK = Policy(allow=Hosts.parse("127.0.0.1"))
SECRET = "s3cret"


@pytest.fixture
async def there() -> AsyncIterator[Counterpart]:
    async with counterpart() as served:
        yield served


@contextlib.asynccontextmanager
async def calls(policy: Policy = LOOPBACK, **more: Any) -> AsyncIterator[Outbound]:
    async with Outbound(policy, lambda: NOW, **more) as outbound:
        yield outbound


async def test_a_call_and_its_answer(there: Counterpart) -> None:
    there.handler = lambda asked: as_json({"id": 7}, 201)
    async with calls() as outbound:
        answer = await outbound.request(
            "POST", f"{there.url}/x", headers={"X-Key": "k"}, params={"page": 2}, json={"a": 1}
        )
    assert (answer.status, answer.ok, answer.json()) == (201, True, {"id": 7})
    (asked,) = there.requests
    assert (asked.method, asked.path, asked.query, asked.json) == ("POST", "/x", {"page": ["2"]}, {"a": 1})
    assert asked.headers["x-key"] == "k"
    assert asked.headers["user-agent"].startswith("gocdnext/")


async def test_cookies_are_not_kept(there: Counterpart) -> None:
    there.handler = lambda asked: Told(headers={"Set-Cookie": "a=b"})
    async with calls() as outbound:
        await outbound.request("GET", there.url)
        await outbound.request("GET", there.url)
    assert "cookie" not in there.requests[1].headers
    assert there.connections == 1


# Targets


async def test_an_offline_server_calls_nobody(there: Counterpart) -> None:
    async with calls(Policy(offline=True, allow=Hosts.parse("*"))) as outbound:
        with pytest.raises(OfflineError, match=r"a call to 127.0.0.1 is refused.*GOCDNEXT_OFFLINE"):
            await outbound.request("GET", f"{there.url}/?token={SECRET}")
    assert there.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
async def test_this_machine_is_not_called_however_it_is_written(there: Counterpart, host: str) -> None:
    async with calls(Policy()) as outbound:
        with pytest.raises(RefusedTargetError, match=r"GOCDNEXT_OUTBOUND_ALLOW|not a url"):
            await outbound.request("GET", f"http://{host}:{there.port}/")
    assert there.connections == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "192.168.0.1", "[fd00::1]", "[fe80::1]"])
async def test_networks_inside_and_metadata_are_not_called(host: str) -> None:
    async with calls() as outbound:
        with pytest.raises(RefusedTargetError):
            await outbound.request("GET", f"http://{host}/latest/meta-data")


class Resolver(trio.abc.HostnameResolver):
    """Names as a hostile name server gives them: another answer at every question."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def getaddrinfo(self, host: Any, port: Any, *more: Any) -> Any:
        address = self.answers.pop(0)
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(kind, socket.SOCK_STREAM, 6, "", (address, port))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def test_the_address_that_was_looked_at_is_the_one_that_is_called(there: Counterpart) -> None:
    """DNS rebinding: the second answer, which is inside, is never asked for."""
    resolver = Resolver("127.0.0.1", "169.254.169.254")
    trio.socket.set_custom_hostname_resolver(resolver)
    try:
        async with calls() as outbound:
            answer = await outbound.request("GET", f"http://name.example:{there.port}/")
    finally:
        trio.socket.set_custom_hostname_resolver(None)
    assert answer.status == 404
    assert resolver.answers == ["169.254.169.254"]
    assert there.requests[0].headers["host"] == f"name.example:{there.port}"


async def test_a_name_is_judged_by_what_it_means() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver("10.0.0.7"))
    try:
        async with calls() as outbound:
            with pytest.raises(RefusedTargetError):
                await outbound.request("GET", "http://public.example/")
    finally:
        trio.socket.set_custom_hostname_resolver(None)


@pytest.mark.parametrize("name", ["localhost", "*"])
async def test_what_the_operator_allows_is_called(there: Counterpart, name: str) -> None:
    async with calls(Policy(allow=Hosts.parse(name))) as outbound:
        assert (await outbound.request("GET", f"http://localhost:{there.port}/")).status == 404


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.org/", "gopher://example.org/", "unix:///run/docker.sock", "//example.org/",
        "example.org", "http://", "http:///x", "", f"https://u:{SECRET}@example.org/",
        "http://[::1", "http://example.org:99999/", "http://example.org/\n", "http://" + "a" * 9000,
    ],
)  # fmt: skip
async def test_only_plain_http_urls_are_called(url: str) -> None:
    async with calls(Policy(allow=Hosts.parse("*"))) as outbound:
        with pytest.raises(RefusedTargetError) as refused:
            await outbound.request("GET", url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X\n": "a"}, {"X": "é\x00"}])
async def test_headers_cannot_be_smuggled(there: Counterpart, headers: dict[str, str]) -> None:
    async with calls() as outbound:
        with pytest.raises(OutboundError):
            await outbound.request("GET", there.url, headers=headers)
    assert not there.requests


# Redirects


async def test_a_redirect_is_an_answer_unless_following_was_asked_for(there: Counterpart) -> None:
    there.handler = lambda asked: (
        Told(302, headers={"Location": "/there"}) if asked.path == "/" else Told(200, b"found")
    )
    async with calls() as outbound:
        assert (await outbound.request("GET", there.url)).status == 302
        found = await outbound.request("GET", there.url, redirects=1, headers={"Authorization": SECRET})
        assert found.content == b"found"
        assert there.requests[-1].headers["authorization"] == SECRET
        assert (await outbound.request("POST", there.url, redirects=1)).status == 302


async def test_another_host_never_gets_the_callers_headers(there: Counterpart) -> None:
    async with counterpart(lambda asked: Told(200, b"other")) as other:
        there.handler = lambda asked: Told(307, headers={"Location": f"{other.url}/x"})
        async with calls() as outbound:
            sent = {"Authorization": SECRET, "Private-Token": SECRET, "Cookie": SECRET}
            answer = await outbound.request("GET", there.url, headers=sent, redirects=3)
    assert answer.content == b"other"
    assert SECRET not in str(other.requests[0].headers)
    assert other.requests[0].headers["host"] == f"127.0.0.1:{other.port}"


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:1/", "http://169.254.169.254/latest", "file:///etc/passwd", f"http://u:{SECRET}@x/"]
)
async def test_a_redirect_leads_nowhere_that_a_call_could_not_go(there: Counterpart, target: str) -> None:
    there.handler = lambda asked: Told(302, headers={"Location": target})
    async with calls(Policy(allow=Hosts.parse("127.0.0.1/32"))) as outbound:
        with pytest.raises(RefusedTargetError) as refused:
            await outbound.request("GET", there.url, redirects=3)
    assert SECRET not in str(refused.value)


async def test_a_circle_of_redirects_ends(there: Counterpart) -> None:
    there.handler = lambda asked: Told(302, headers={"Location": "/"})
    async with calls() as outbound:
        assert (await outbound.request("GET", there.url, redirects=4)).status == 302
    assert len(there.requests) == 5


# What is repeated


async def test_a_safe_call_is_repeated_after_failures(there: Counterpart, autojump_clock: object) -> None:
    there.answers = [Told(500), Told(raw=b"")]
    there.handler = lambda asked: Told(200, b"now")
    async with calls() as outbound:
        assert (await outbound.request("GET", there.url)).content == b"now"
    assert len(there.requests) == 3


async def test_what_keeps_failing_is_given_back(there: Counterpart, autojump_clock: object) -> None:
    there.handler = lambda asked: Told(503)
    async with calls() as outbound:
        assert (await outbound.request("GET", there.url)).status == 503
    assert len(there.requests) == 3


async def test_what_changes_something_is_not_repeated(there: Counterpart) -> None:
    there.answers = [Told(500), Told(raw=b"")]
    async with calls() as outbound:
        assert (await outbound.request("POST", there.url, json={})).status == 500
        with pytest.raises(UnreachableError):
            await outbound.request("POST", there.url, json={})
    assert len(there.requests) == 2


async def test_a_refused_rate_is_waited_for(there: Counterpart, autojump_clock: object) -> None:
    there.answers = [Told(429, headers={"Retry-After": "12"})]
    there.handler = lambda asked: Told(201)
    began = trio.current_time()
    async with calls() as outbound:
        assert (await outbound.request("POST", there.url, json={})).status == 201
    assert trio.current_time() - began >= 12


@pytest.mark.parametrize(
    ("headers", "status", "seconds"),
    [
        ({"Retry-After": "90"}, 429, 90),
        ({"Retry-After": "Tue, 28 Apr 2026 13:02:00 GMT"}, 503, 120),
        ({"Retry-After": "Tue, 28 Apr 2020 13:02:00 GMT"}, 503, 0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW.timestamp()) + 77)}, 403, 77),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, 403, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}, 200, None),
        ({"Retry-After": "soon"}, 403, None),
        ({"Retry-After": "-1"}, 403, None),
        ({"Retry-After": "Tue, 99 Apr 2026"}, 403, None),
    ],
)
async def test_how_long_the_other_side_asks_to_wait(
    there: Counterpart, headers: dict[str, str], status: int, seconds: float | None
) -> None:
    there.handler = lambda asked: Told(status, headers=headers)
    async with calls(attempts=1) as outbound:
        assert (await outbound.request("GET", there.url)).retry_after == seconds
    assert len(there.requests) == 1


async def test_a_wait_beyond_the_time_of_the_call_is_left_to_the_caller(there: Counterpart) -> None:
    there.handler = lambda asked: Told(429, headers={"Retry-After": "3600"})
    async with calls() as outbound:
        answer = await outbound.request("GET", there.url)
    assert (answer.status, answer.retry_after) == (429, 3600)
    assert len(there.requests) == 1


# Bounds


async def test_a_server_that_hangs(there: Counterpart, autojump_clock: object) -> None:
    there.handler = lambda asked: Told(hang=True)
    async with calls() as outbound:
        with pytest.raises(UnreachableError, match=r"^127.0.0.1 gave no whole answer within 20 s$"):
            await outbound.request("GET", f"{there.url}/{SECRET}", timeout=20)


async def test_a_server_that_drips(there: Counterpart, autojump_clock: object) -> None:
    """A byte now and then keeps the connection alive for ever; the time for the whole call does not care."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]

    async def drip(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                await stream.send_all(b".")
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, drip, [listener])
        async with calls() as outbound:
            with pytest.raises(UnreachableError, match="within 30 s"):
                await outbound.request("GET", f"http://127.0.0.1:{listener.socket.getsockname()[1]}/")
        nursery.cancel_scope.cancel()


async def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with calls(attempts=1) as outbound:
        with pytest.raises(UnreachableError, match=r"cannot connect to 127\.0\.0\.1"):
            await outbound.request("GET", f"http://127.0.0.1:{port}/{SECRET}")
        with pytest.raises(UnreachableError, match="has no address"):
            await outbound.request("GET", "http://no-such-host.invalid/")


@pytest.mark.filterwarnings(
    "ignore:Async generator 'httpcore:ResourceWarning"
)  # it leaves its own ones to the collector
@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Told(body=b"x" * 2000), "more than 1000 bytes"),
        (Told(raw=b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000), "more than 1000 bytes"),
        (Told(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), "packed"),
        (Told(headers={f"X-{n}": "1" for n in range(120)}), "more than 100 headers"),
        (Told(raw=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"), "speak HTTP"),
        (Told(raw=b"SSH-2.0-OpenSSH_9.2\r\n"), "speak HTTP"),
        (Told(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123"), "speak HTTP"),
    ],
)
async def test_answers_that_are_none(there: Counterpart, told: Told, words: str) -> None:
    there.handler = lambda asked: told
    async with calls(attempts=1) as outbound:
        with pytest.raises(OutboundError, match=words):
            await outbound.request("GET", there.url, max_bytes=1000)


@pytest.mark.parametrize(
    ("body", "reader"), [(b"<html>", "json"), (b"[1]", "mapping"), (b"{}", "entries"), (b"[1]", "entries")]
)
async def test_documents_that_are_none(there: Counterpart, body: bytes, reader: str) -> None:
    there.handler = lambda asked: Told(body=body)
    async with calls() as outbound:
        answer = await outbound.request("GET", there.url)
        with pytest.raises(BadAnswerError, match=r"127\.0\.0\.1 answered 200"):
            getattr(answer, reader)()


async def test_a_call_can_be_cancelled(there: Counterpart) -> None:
    there.handler = lambda asked: Told(hang=True)
    async with calls() as outbound, trio.open_nursery() as nursery:
        nursery.start_soon(outbound.request, "GET", there.url)
        with trio.fail_after(30):
            while not there.requests:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


# TLS and proxies


async def test_tls_is_checked_against_name_and_authority(tmp_path: Path) -> None:
    tls, trusted = certificate(tmp_path, "127.0.0.1")
    async with counterpart(lambda asked: Told(200, b"sure"), tls) as there:
        async with calls(attempts=1) as outbound:
            with pytest.raises(UnreachableError, match="certificate verify failed"):
                await outbound.request("GET", there.url, headers={"Authorization": SECRET})
        trusting = ssl.create_default_context(cafile=str(trusted))
        both = Policy(allow=Hosts.parse("127.0.0.1,localhost"))
        async with calls(both, attempts=1, tls=trusting) as outbound:
            assert (await outbound.request("GET", there.url)).content == b"sure"
            with pytest.raises(UnreachableError, match=r"not valid for|mismatch"):
                await outbound.request("GET", there.url.replace("127.0.0.1", "localhost"))
        assert len(there.requests) == 1


async def test_calls_go_through_the_proxy_except_to_whom_it_says(there: Counterpart) -> None:
    proxy = f"http://user:pass@127.0.0.1:{there.port}"
    there.handler = lambda asked: Told(200, asked.headers["host"].encode())
    policy = config.load(
        {"HOME": "/", "http_proxy": proxy, "NO_PROXY": "127.0.0.1, [weird", "GOCDNEXT_OUTBOUND_ALLOW": "127.0.0.1"}
    ).outbound
    assert "pass" not in repr(policy)
    async with calls(policy) as outbound:
        # A name that only the proxy can resolve, and the proxy is on an address that nobody would call.
        assert (await outbound.request("GET", "http://only-there.invalid/x")).content == b"only-there.invalid"
        assert there.requests[0].headers["proxy-authorization"].startswith("Basic ")
        await outbound.request("GET", f"{there.url}/direct")
        assert "proxy-authorization" not in there.requests[1].headers
        with pytest.raises(RefusedTargetError):
            await outbound.request("GET", "http://169.254.169.254/")
    assert len(there.requests) == 2


async def test_a_proxy_that_refuses_a_tunnel(there: Counterpart) -> None:
    there.handler = lambda asked: Told(407, b"who are you")
    policy = Policy(https_proxy=there.url)
    async with calls(policy, attempts=1) as outbound:
        with pytest.raises(UnreachableError):
            await outbound.request("GET", f"https://only-there.invalid/{SECRET}", headers={"X": SECRET})
    assert there.requests[0].method == "CONNECT"
    assert SECRET not in str(there.requests)


async def test_what_failed_is_told_without_what_was_sent(there: Counterpart) -> None:
    """Neither the text nor anything that hangs on the error holds the request."""
    there.handler = lambda asked: Told(raw=b"")
    async with calls(attempts=1) as outbound:
        with pytest.raises(OutboundError) as failed:
            await outbound.request("GET", f"{there.url}/{SECRET}?t={SECRET}", headers={"Authorization": SECRET})
    assert SECRET not in str(failed.value)
    assert failed.value.__context__ is None
    assert failed.value.__cause__ is None
