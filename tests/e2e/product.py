"""The whole product from the checkout, with real agents and readers, for tests that break it.

`Product` is `harness.Server` that runs the checkout instead of the zipapp (no build; a start takes a second) and knows
its agents, its PostgreSQL and all its processes. What a test expects of the product is in the test, but for `Reader`,
which checks the rules of the event stream wherever it is used.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import httpx_sse
import trio

from tests.e2e.harness import ROOT, Server

TOKEN = "registration-token-of-the-tests"
WITHIN = 60.0
"""Seconds: bound of everything that is waited for; nothing should take nearly as long."""
POLL = 0.02
TERMINAL = ("success", "failed", "canceled")


class Product(Server):
    """A server from the checkout (or `program`), agents of their own, and whatever all of them have started."""

    def __init__(self, folder: Path, program: Path | None = None) -> None:
        checkout = folder / "run.py"
        super().__init__(program or checkout, folder)
        if program is None:
            checkout.write_text("from gocdnext.cli import main\n\nmain()\n")
            self.environment["PYTHONPATH"] = str(ROOT)
        self.http_port = int(self.url.rpartition(":")[2])
        self.grpc_port = int(self.environment["GOCDNEXT_GRPC_ADDR"].rpartition(":")[2])
        self.environment["GOCDNEXT_AGENT_REGISTRATION_TOKEN"] = TOKEN
        self.agents: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self.process is not None
        return self.process.pid

    def agent(self, name: str, capacity: int = 1, *, port: int | None = None) -> subprocess.Popen[bytes]:
        """Starts an agent of its own, which goes on when the server ends; `port` when something is in between."""
        environment = self.environment | {
            "GOCDNEXT_SERVER_ADDR": f"127.0.0.1:{port or self.grpc_port}",
            "GOCDNEXT_AGENT_NAME": name,
            "GOCDNEXT_AGENT_TOKEN": TOKEN,
            "GOCDNEXT_AGENT_CAPACITY": str(capacity),
            "GOCDNEXT_WORKSPACE_ROOT": str(self.folder / name),
            "GOCDNEXT_DRAIN_BUDGET": "0s",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, self.program, "agent"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.agents.append(agent)
        return agent

    def postmaster(self) -> int:
        """Process id of the running PostgreSQL."""
        (pid_file,) = self.state.glob("pg/*/postmaster.pid")
        return int(pid_file.read_text().split()[0])

    def sockets(self) -> str:
        """The directory of its socket."""
        (pid_file,) = self.state.glob("pg/*/postmaster.pid")
        return pid_file.read_text().splitlines()[4]

    def backends(self) -> list[int]:
        """Process ids of PostgreSQL's children that serve a connection."""
        found = []
        for pid in descendants(self.postmaster()):
            with contextlib.suppress(OSError):
                if b"postgres: ci gocdnext" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def end(self) -> None:
        """Kills the server and its agents and waits until everything that they started is gone too."""
        for agent in self.agents:
            agent.kill()
            agent.wait()
        self.kill()
        deadline = time.monotonic() + 15
        while left := processes_of(self.folder) + processes_of(self.state):
            if time.monotonic() > deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"left behind after everything was killed: {left}\n{self.log()}")
            time.sleep(POLL)


def processes_of(folder: Path) -> list[int]:
    """Live processes that work below a folder or name it in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "stat").read_text().rsplit(") ", 1)[1][0] == "Z":
                    continue
                words = (entry / "cmdline").read_bytes()
                if os.fsencode(folder) in words or Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                    found.append(int(entry.name))
    return found


def descendants(pid: int) -> list[int]:
    """A process and everything below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(") ", 1)[1].split()[1])
    found = [pid]
    for above in found:
        found += [child for child, parent in parents.items() if parent == above]
    return found


def resident(pid: int) -> int:
    """Bytes of memory that a process has to itself (RssAnon)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))


def make_repository(folder: Path, jobs: str) -> Path:
    """A repository with the pipeline `ci` of one stage `build`; `jobs` is the YAML below `jobs:`, not indented."""
    indented = "".join(f"  {line}\n" for line in jobs.splitlines())
    (folder / ".gocdnext").mkdir(parents=True, exist_ok=True)
    (folder / ".gocdnext" / "ci.yaml").write_text(
        f'name: ci\nstages: [build]\nmaterials: [{{git: {{url: "file://{folder}", branch: main}}}}]\njobs:\n{indented}'
    )
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-q", "-m", "start"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, stdin=subprocess.DEVNULL)
    return folder


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]], what: str, within: float = WITHIN) -> Any:
    """Polls until the condition gives something true, and returns it."""
    with trio.move_on_after(within):
        while True:
            value = condition()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
            await trio.sleep(POLL)
    raise AssertionError(f"not within {within:g} s: {what}")


class Api:
    """Requests of a user. Every answer is checked against the one rule that never has an exception: no 500, no 401."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.http = httpx.AsyncClient(base_url=product.url, timeout=30)
        self.statuses: list[int] = []

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request; a 503 must say when to come back."""
        response = await self.http.request(method, path, **options)
        self.statuses.append(response.status_code)
        assert response.status_code not in (401, 500), f"{path}: {response.text}\n{self.product.log()}"
        if response.status_code == 503 and path.startswith("/api/"):
            assert "Retry-After" in response.headers, path
        return response

    async def get(self, path: str) -> Any:
        """The JSON of a good answer."""
        response = await self.request("GET", path)
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text}\n{self.product.log()}"
        return response.json()

    async def apply(self, repository: Path) -> str:
        """Applies a repository made by `make_repository` as project `demo`; the pipeline's id."""
        content = (repository / ".gocdnext" / "ci.yaml").read_text()
        body = {"slug": "demo", "files": [{"name": "ci.yaml", "content": content}]}
        response = await self.request("POST", "/api/v1/projects/apply", json=body)
        assert response.status_code in (200, 201), response.text
        pipeline: str = response.json()["pipelines"][0]["pipeline_id"]
        return pipeline

    async def trigger(self, pipeline: str) -> str:
        """Starts a run; its id."""
        response = await self.request("POST", f"/api/v1/pipelines/{pipeline}/trigger")
        assert response.status_code in (200, 201, 202), response.text + self.product.log()
        run: str = response.json()["run_id"]
        return run

    async def start(self, repository: Path) -> str:
        """Applies and triggers; the run's id."""
        return await self.trigger(await self.apply(repository))

    async def run(self, run: str) -> dict[str, Any]:
        """The run without log lines."""
        found: dict[str, Any] = await self.get(f"/api/v1/runs/{run}?logs=0")
        return found

    async def jobs(self, run: str) -> list[dict[str, Any]]:
        """All jobs of a run."""
        return [job for stage in (await self.run(run))["stages"] for job in stage["jobs"]]

    async def ended(self, run: str, within: float = WITHIN) -> str:
        """Waits for the end of a run, whatever the server goes through meanwhile; its status."""

        async def look() -> str | None:
            with contextlib.suppress(httpx.TransportError):
                response = await self.request("GET", f"/api/v1/runs/{run}?logs=0")
                if response.status_code == 200 and (status := response.json()["status"]) in TERMINAL:
                    return str(status)
            return None

        status: str = await until(look, f"run {run} ended: {self.product.log()}", within)
        return status

    async def running(self, run: str, count: int = 1) -> None:
        """Waits until so many jobs of the run are running."""

        async def look() -> bool:
            return [job["status"] for job in await self.jobs(run)].count("running") >= count

        await until(look, f"{count} jobs running")

    async def online(self, *names: str) -> None:
        """Waits until these agents are connected."""

        async def look() -> bool:
            agents = (await self.get("/api/v1/agents"))["agents"]
            return set(names) <= {agent["name"] for agent in agents if agent["status"] == "online"}

        await until(look, f"agents {names} online")

    async def log(self, run: str, job: str) -> str:
        """log.txt of a job."""
        response = await self.request("GET", f"/api/v1/runs/{run}/jobs/{job}/log.txt")
        assert response.status_code == 200, response.text
        return response.text


@contextlib.asynccontextmanager
async def api_of(product: Product) -> AsyncIterator[Api]:
    """Requests to this server, as long as the block lasts."""
    api = Api(product)
    try:
        yield api
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await api.http.aclose()


class Seen(NamedTuple):
    """A line that a reader was given. The server has stored it: that is what "acknowledged" means here."""

    cursor: int
    job: str
    seq: int
    text: str


class Reader:
    """Reads a run's event stream to its `end`, through every break, as a browser does: with `Last-Event-ID`.

    Checks on the way that ids only grow, and that the lines of a job come without a gap or a repetition; a job that is
    repeated starts again at 1.
    """

    def __init__(self, product: Product, run: str) -> None:
        self.product = product
        self.run_id = run
        self.seen: list[Seen] = []
        self.cursor = 0
        self.end: str | None = None
        self.connections = 0
        self._newest: dict[str, int] = {}

    async def run(self) -> None:
        """Until `event: end`. A connection that breaks or is refused is made again."""
        async with httpx.AsyncClient(base_url=self.product.url, timeout=httpx.Timeout(30, connect=5)) as http:
            while self.end is None:
                with contextlib.suppress(httpx.TransportError):
                    await self._connection(http)
                await trio.sleep(POLL)

    async def _connection(self, http: httpx.AsyncClient) -> None:
        headers = {"Last-Event-ID": str(self.cursor), "Accept-Encoding": "identity"}
        path = f"/api/v1/runs/{self.run_id}/logs/stream"
        async with httpx_sse.aconnect_sse(http, "GET", path, headers=headers) as source:
            status = source.response.status_code
            if status == 503:
                return
            assert status == 200, status
            self.connections += 1
            async for event in source.aiter_sse():
                if event.event == "end":
                    self.end = event.json()["status"]
                elif event.event == "log":
                    self._take(int(event.id), event.json())

    def _take(self, cursor: int, line: dict[str, Any]) -> None:
        job, seq = line["job_id"], line["seq"]
        assert cursor > self.cursor, f"id {cursor} after {self.cursor}"
        assert seq in (1, self._newest.get(job, 0) + 1), f"seq {seq} after {self._newest.get(job)} of job {job}"
        self.cursor, self._newest[job] = cursor, seq
        self.seen.append(Seen(cursor, job, seq, line["text"]))

    def last_attempt(self, job: str) -> list[str]:
        """The texts of a job since it began for the last time."""
        lines = [seen for seen in self.seen if seen.job == job]
        start = max((at for at, seen in enumerate(lines) if seen.seq == 1), default=0)
        return [seen.text for seen in lines[start:]]

    async def compare(self, api: Api) -> None:
        """Every job's last attempt, as it was seen live, is what is stored: nothing more, nothing less."""
        for job in await api.jobs(self.run_id):
            stored = await api.log(self.run_id, job["id"])
            seen = "".join(f"{text}\n" for text in self.last_attempt(job["id"]))
            differ = next((at for at, two in enumerate(zip(stored, seen, strict=False)) if two[0] != two[1]), None)
            assert stored == seen, f"{len(stored)} stored, {len(seen)} seen, first difference at {differ}: {job}"


@contextlib.contextmanager
def product_in(folder: Path, program: Path | None = None) -> Iterator[Product]:
    """A product that is not started yet; nothing of it is left after the block."""
    product = Product(folder, program)
    try:
        yield product
    finally:
        product.end()
