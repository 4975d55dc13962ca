"""A registry on loopback that serves one image from an OCI layout, under any name, to everybody or after a login."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

JSON = "application/json"
USER, PASSWORD = "puller", "a password with : in it"


@dataclass(frozen=True)
class Registry:
    """`layout` is filled by whoever has an image; `address` is host:port."""

    layout: Path
    address: str


@contextlib.contextmanager
def serving_registry(layout: Path, *, private: bool) -> Iterator[Registry]:
    """Answers until the context is left. `private`: only to USER."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(send_body=True)

        def do_HEAD(self) -> None:
            self._answer(send_body=False)

        def _answer(self, *, send_body: bool) -> None:
            login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if private and self.headers.get("Authorization") != login:
                status, kind, content = 401, JSON, b'{"errors": [{"code": "UNAUTHORIZED", "message": "log in first"}]}'
            else:
                status, kind, content = _find(layout, self.path)
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="registry"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if send_body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Registry(layout, f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _find(layout: Path, path: str) -> tuple[int, str, bytes]:
    """Status, content type and content for a path of the distribution API."""
    if path == "/v2/":
        return 200, JSON, b"{}"
    name, _, last = path.rpartition("/")
    if name.endswith("/manifests") and not last.startswith("sha256:"):
        last = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    blob = layout / "blobs" / last.replace(":", "/")
    if not last.startswith("sha256:") or not blob.is_file():
        return 404, JSON, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no such image"}]}'
    kind = "application/vnd.oci.image.manifest.v1+json" if "/manifests/" in path else "application/octet-stream"
    return 200, kind, blob.read_bytes()
