"""What it costs to know who is calling: the same reads without authentication and with a bearer token, taking turns; how soon
a revoked token is good for nothing, here and on another server; what others notice of a crowd that signs in.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.bench.stack import Server, scratch, serving

Figure = tuple[str, float, str, str]
PROJECTS, RUNS = 10, 100
ROUNDS, BLOCK = 15, 60
SIGN_INS, CROWDS = 20, 10
PASSWORD = "correct horse battery"
ON = {"GOCDNEXT_AUTH_ENABLED": "true"}


def figures() -> list[Figure]:
    """Rates with a token over rates without, revocation, and latencies beside sign-ins."""
    with scratch() as folder:
        with (
            serving(folder / "open", shiv_root=folder / "shiv") as without,
            serving(folder / "guarded", shiv_root=folder / "shiv", variables=ON) as guarded,
        ):
            result = list(_compared(without, guarded))
        url = f"postgresql://ci@/gocdnext?host={folder / 'guarded' / 'run'}&port=5432"
        with serving(folder / "guarded", variables=ON) as guarded:
            with serving(folder / "other", variables=ON | {"GOCDNEXT_DATABASE_URL": url}) as other:
                result.extend(_revoked(guarded, other))
            result.extend(_beside_sign_ins(guarded))
    return result


def _compared(without: Server, guarded: Server) -> Iterator[Figure]:
    token = _token(guarded)
    paths = [_filled(without, ""), _filled(guarded, token)]
    for number, name in enumerate(("runs feed", "run detail", "projects", "pipeline source")):
        plain = Caller(without, paths[0][number])
        known = Caller(guarded, paths[1][number], token)
        for caller in (plain, known):
            caller.seconds(BLOCK)
        took = [(plain.seconds(BLOCK), known.seconds(BLOCK)) for _ in range(ROUNDS)]
        rates = [BLOCK / statistics.median(each) for each in zip(*took, strict=True)]
        slower = statistics.median(second / first for first, second in took)
        yield (f"{name}, without authentication", rates[0], "1/s", "")
        yield (f"{name}, with a bearer token", rates[1], "1/s", "")
        yield (f"{name}, time with a token / without", slower, "x", "1.1")


def _revoked(here: Server, other: Server) -> Iterator[Figure]:
    token = _user_token(here)
    callers = [httpx.Client(base_url=each.http, headers=_bearer(token)) for each in (here, other)]
    assert [each.get("/api/v1/me").status_code for each in callers] == [200, 200]
    newest = callers[0].get("/api/v1/account/api-tokens").json()["tokens"][0]
    began = time.perf_counter()
    callers[0].delete(f"/api/v1/account/api-tokens/{newest['id']}").raise_for_status()
    yield ("revoked token, good on the same server for", _until_401(callers[0], time.perf_counter()), "s", "0.1")
    yield ("revoked token, good on another server for", _until_401(callers[1], began), "s", "5.5")


def _beside_sign_ins(server: Server) -> Iterator[Figure]:
    """A reader goes on while twenty people sign in at the same moment."""
    token = _operator(server.state)
    with httpx.Client(base_url=server.http, headers=_bearer(token), timeout=120) as admin:
        for number in range(1, SIGN_INS + 1):
            admin.post("/api/v1/admin/users", json=_person(number)).raise_for_status()
    caller = Caller(server, "/api/v1/runs?limit=20", token)
    quiet = [caller.seconds(1) for _ in range(300)]
    beside: list[float] = []
    lasted = []
    for _ in range(CROWDS):
        crowd = [_signing_in(server, number) for number in range(1, SIGN_INS + 1)]
        answered = threading.Thread(target=lambda crowd=crowd: [_signed_in(each) for each in crowd])
        began = time.perf_counter()
        for connection, request in crowd:
            connection.sendall(request)
        answered.start()
        while answered.is_alive():
            beside.append(caller.seconds(1))
        lasted.append(time.perf_counter() - began)
    yield ("20 sign-ins at once, the last one is in after", statistics.median(lasted), "s", "")
    yield ("another request beside them, p50", statistics.median(beside) * 1000, "ms", "")
    yield ("another request beside them, p99", statistics.quantiles(beside, n=100)[98] * 1000, "ms", "100")
    yield ("the same request without them, p99", statistics.quantiles(quiet, n=100)[98] * 1000, "ms", "")


def _signing_in(server: Server, number: int) -> tuple[socket.socket, bytes]:
    """A connection that is open, and what signs somebody in on it: clients of 20 people would be 20 machines."""
    host, _, port = server.http.removeprefix("http://").partition(":")
    body = json.dumps({"email": f"user-{number}@acme.example", "password": PASSWORD}).encode()
    head = f"POST /auth/login/local HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    return socket.create_connection((host, int(port))), head.encode() + body


def _signed_in(crowd: tuple[socket.socket, bytes]) -> None:
    with crowd[0] as connection:
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer[:300]


class Caller:
    """One connection that asks the same again and again, with as little of its own work as can be."""

    def __init__(self, server: Server, path: str, token: str = "") -> None:
        host, _, port = server.http.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        known = f"Authorization: Bearer {token}\r\n" if token else ""
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{known}\r\n".encode()

    def seconds(self, times: int) -> float:
        """How long that many answers take."""
        began = time.perf_counter()
        for _ in range(times):
            self._socket.sendall(self._request)
            self._answer()
        return time.perf_counter() - began

    def _answer(self) -> None:
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._received()
        head = data[:end].lower()
        assert head.startswith(b"http/1.1 200"), head[:200]
        length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        missing = length - (len(data) - end - 4)
        while missing > 0:
            missing -= len(self._received())

    def _received(self) -> bytes:
        data = self._socket.recv(65536)
        assert data, "the server closed the connection"
        return data


def _filled(server: Server, token: str) -> tuple[str, str, str, str]:
    """Projects and runs; the paths that are read then."""
    with httpx.Client(base_url=server.http, headers=_bearer(token) if token else {}, timeout=60) as http:
        jobs = {"j": {"stage": "s", "script": ["true"]}}
        source = json.dumps({"name": "ci", "materials": [{"manual": True}], "stages": ["s"], "jobs": jobs})
        for number in range(PROJECTS):
            body = {"slug": f"project-{number}", "files": [{"name": "ci.yaml", "content": source}]}
            http.post("/api/v1/projects/apply", json=body).raise_for_status()
        pipeline = http.get("/api/v1/projects/project-0").json()["pipelines"][0]["id"]
        for _ in range(RUNS):
            run = http.post(f"/api/v1/pipelines/{pipeline}/trigger").raise_for_status().json()["run_id"]
    return "/api/v1/runs?limit=50", f"/api/v1/runs/{run}", "/api/v1/projects", f"/api/v1/pipelines/{pipeline}/yaml"


def _token(server: Server) -> str:
    """The token of a person: the operator's is looked up nowhere."""
    operator = _operator(server.state)
    with httpx.Client(base_url=server.http, headers=_bearer(operator), timeout=60) as admin:
        admin.post("/api/v1/admin/users", json=_person(0)).raise_for_status()
    return _user_token(server)


def _user_token(server: Server) -> str:
    with httpx.Client(base_url=server.http, timeout=60) as http:
        body = {"email": "user-0@acme.example", "password": PASSWORD}
        cookie = http.post("/auth/login/local", json=body).raise_for_status().headers["set-cookie"].partition(";")[0]
        made = http.post("/api/v1/account/api-tokens", json={"name": "bench"}, headers={"Cookie": cookie})
        token: str = made.raise_for_status().json()["plaintext"]
        return token


def _until_401(caller: httpx.Client, began: float) -> float:
    while caller.get("/api/v1/me").status_code == 200:
        time.sleep(0.02)
        assert time.perf_counter() - began < 30
    return time.perf_counter() - began


def _person(number: int) -> dict[str, str]:
    return {"email": f"user-{number}@acme.example", "role": "admin", "password": PASSWORD}


def _operator(state: Path) -> str:
    return (state / "operator-token.key").read_bytes().hex()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


if __name__ == "__main__":
    for figure in figures():
        print(*figure, file=sys.stdout)
