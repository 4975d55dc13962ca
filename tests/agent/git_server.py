"""Real repositories, and a real git server over HTTP that wants a password (git http-backend)."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USER, PASSWORD = "x-access-token", "s3cr3t-of-the-clone"


def git(repository: Path, *args: str) -> str:
    """Runs git in a repository and returns what it prints."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(repository),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "a@example.org" for who in ("AUTHOR", "COMMITTER")},
    }
    done = subprocess.run(["git", *args], cwd=repository, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make_repository(path: Path) -> dict[str, str]:
    """A repository with two commits on main and one on the branch `side`; returns their revisions by name."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    revisions = {}
    for name, branch in (("first", "main"), ("second", "main"), ("side", "side")):
        if branch == "side":
            git(path, "checkout", "--quiet", "-b", "side")
        (path / "file").write_text(f"{name}\n")
        git(path, "add", "file")
        git(path, "commit", "--quiet", "-m", name)
        revisions[name] = git(path, "rev-parse", "HEAD")
    git(path, "checkout", "--quiet", "main")
    git(path, "config", "uploadpack.allowFilter", "true")
    git(path, "config", "uploadpack.allowAnySHA1InWant", "true")
    return revisions


class _Backend(BaseHTTPRequestHandler):
    root = ""
    protocol_v2 = True
    sent = 0
    """Bytes of all answers."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *args: object) -> None:
        pass

    def _serve(self) -> None:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": self.root,
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "") if self.protocol_v2 else "",
        }
        body = self.rfile.read(length)
        output = subprocess.run(["git", "http-backend"], input=body, env=env, check=True, capture_output=True).stdout
        head, _, content = output.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        type(self).sent += len(content)
        self.wfile.write(content)


@contextlib.contextmanager
def http_git_server(root: Path, *, protocol_v2: bool = True) -> Iterator[str]:
    """Serves the repositories below `root`; yields `127.0.0.1:port`."""
    with counting_git_server(root, protocol_v2=protocol_v2) as (address, _):
        yield address


@contextlib.contextmanager
def counting_git_server(root: Path, *, protocol_v2: bool = True) -> Iterator[tuple[str, Callable[[], int]]]:
    """The same; also yields what tells the bytes that it has sent so far."""
    handler = type("Backend", (_Backend,), {"root": str(root), "protocol_v2": protocol_v2})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", lambda: handler.sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
