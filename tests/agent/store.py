"""A store on loopback: HTTP with signed-looking URLs, and a server's answers that give them out."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.proto import agent_pb2 as pb
from tests.agent.scripted_server import ScriptedServer

TOKEN = "c2lnbmVk-very-secret-token"
"""A part of every URL that nobody may ever see."""


@dataclass
class Store:
    """What was put, by path; and what the test wants to go wrong."""

    base: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    statuses: list[tuple[int, str]] = field(default_factory=list)
    """Answers that come first, whatever is asked for: status and body."""
    truncate: int = 0
    """So many bytes of each download are promised, but never come."""
    stall: threading.Event | None = None
    """Downloads stop in the middle until it is set."""
    stalled: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str) -> str:
        return f"{self.base}/artifacts/{TOKEN}.{name}"

    def put(self, name: str, content: bytes) -> str:
        """Stores a blob; returns its hash."""
        self.blobs[f"/artifacts/{TOKEN}.{name}"] = content
        return hashlib.sha256(content).hexdigest()

    def get(self, name: str) -> bytes:
        return self.blobs[f"/artifacts/{TOKEN}.{name}"]


@contextlib.contextmanager
def serving_store() -> Iterator[Store]:
    """Answers until the context is left."""
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self._noted():
                store.blobs[self.path] = content
                self.send_response(204)
                self.end_headers()

        def do_GET(self) -> None:
            if not self._noted():
                return
            if self.path.startswith("/elsewhere/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/elsewhere"))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = store.blobs.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if not content:
                return
            half = len(content) // 2
            self.wfile.write(content[:half])
            if store.stall is not None:
                store.stalled.set()
                store.stall.wait(30)
            self.wfile.write(content[half : len(content) - store.truncate])
            self.close_connection = store.truncate > 0

        def _noted(self) -> bool:
            """Whether the request is to be answered as usual."""
            store.requests.append((self.command, self.path, dict(self.headers)))
            if not store.statuses:
                return True
            status, body = store.statuses.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())
            return False

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        if store.stall is not None:
            store.stall.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


class Answers:
    """A server's part in artifacts and caches, with what it was asked in the order of the calls."""

    def __init__(self, store: Store, server: ScriptedServer) -> None:
        self.store = store
        self.calls: list[Any] = []
        self.ready: dict[str, tuple[int, str]] = {}
        """Size and hash of the caches that are ready, by key."""
        self._offers: dict[str, str] = {}
        server.answers |= {
            "RequestArtifactUpload": self._tickets,
            "RequestCacheGet": self._find,
            "RequestCachePut": self._offer,
            "MarkCacheReady": self._mark,
        }

    def _tickets(self, request: pb.RequestArtifactUploadRequest) -> Any:
        self.calls.append(request)
        return pb.RequestArtifactUploadResponse(
            tickets=[
                pb.ArtifactUploadTicket(path=path, storage_key=f"key-{path}", put_url=self.store.url(f"up-{number}"))
                for number, path in enumerate(request.paths)
            ]
        )

    def _find(self, request: pb.RequestCacheGetRequest) -> Any:
        self.calls.append(request)
        if request.key not in self.ready:
            return GRPCError(Status.NOT_FOUND) if request.key == "gone" else pb.RequestCacheGetResponse()
        size, sha256 = self.ready[request.key]
        return pb.RequestCacheGetResponse(
            found=True, get_url=self.store.url(f"cache-{request.key}"), size_bytes=size, content_sha256=sha256
        )

    def _offer(self, request: pb.RequestCachePutRequest) -> Any:
        self.calls.append(request)
        self._offers[f"id-{request.key}"] = request.key
        return pb.RequestCachePutResponse(
            cache_id=f"id-{request.key}", put_url=self.store.url(f"cache-{request.key}"), storage_key="k"
        )

    def _mark(self, request: pb.MarkCacheReadyRequest) -> Any:
        self.calls.append(request)
        self.ready[self._offers[request.cache_id]] = (request.size_bytes, request.content_sha256)
        return pb.MarkCacheReadyResponse()


def main(path: str) -> None:
    """A store of one file, for what is too large to be held in memory. Prints its URL and serves until it is killed."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            left = int(self.headers["Content-Length"])
            with open(path, "wb") as file:
                while left:
                    piece = self.rfile.read(min(left, 2**20))
                    file.write(piece)
                    left -= len(piece)
            self.send_response(204)
            self.end_headers()

        def do_GET(self) -> None:
            with open(path, "rb") as file:
                self.send_response(200)
                self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
                self.end_headers()
                self.wfile.flush()
                self.connection.sendfile(file)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}/artifacts/{TOKEN}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
