"""A small real HTTP server that answers what a test tells it, and the command line called in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
import structlog

from gocdnext.cli import main


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """`chunks` are sent one by one; then the connection is closed."""

    status: int = 200
    chunks: Iterable[bytes] = ()
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Request], object]


class Api:
    """`routes["GET /path"]` is what to answer: a JSON value, an Answer, or a function of the request that gives one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.routes: dict[str, object] = {}
        self.seen: list[Request] = []

    def answer(self, request: Request) -> Answer:
        self.seen.append(request)
        found = self.routes.get(f"{request.method} {request.path}")
        if callable(found):
            found = found(request)
        if found is None:
            return Answer(404, [b'{"error":"not found"}'], {"Content-Type": "application/json"})
        if isinstance(found, Answer):
            return found
        return Answer(200, [orjson.dumps(found)], {"Content-Type": "application/json"})


def serve() -> tuple[ThreadingHTTPServer, Api]:
    class Endpoint(BaseHTTPRequestHandler):
        def answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, parts.path, parse_qs(parts.query), dict(self.headers), body)
            reply = api.answer(request)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            for chunk in reply.chunks:
                self.wfile.write(chunk)
                self.wfile.flush()

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *words: Any) -> None:
            """A test's output is not the place for an access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    api = Api(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, api


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Api]:
    """A server that the command line talks to by default, in an environment without other settings."""
    for name in ("GOCDNEXT_TOKEN", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    server, api = serve()
    monkeypatch.setenv("GOCDNEXT_SERVER_URL", api.url)
    yield api
    server.shutdown()
    server.server_close()


@pytest.fixture
def other_api() -> Iterator[Api]:
    """A second server, at another origin."""
    server, api = serve()
    yield api
    server.shutdown()
    server.server_close()


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """Runs `gocdnext ARGUMENTS` and gives exit code, stdout and stderr."""

    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as ending:
            main(list(arguments))
        captured = capfd.readouterr()
        code = ending.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    yield run
    # A command sets the log of its process up, which here is that of the tests that follow.
    structlog.reset_defaults()


@pytest.fixture
def answer() -> type[Answer]:
    return Answer
