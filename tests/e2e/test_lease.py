"""A server that restarts and a network that breaks in the middle of running jobs: no job is repeated, no line is lost.

Real server, real agents, a proxy between them that the test cuts. How long a break lasts is not a matter of time here
but of what the jobs have done meanwhile; the nightly tests take the minute that is promised.
"""

from __future__ import annotations

import contextlib
import glob
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.e2e.product import Api, Product, Reader, api_of, make_repository, processes_of, until
from tests.e2e.proxy import Proxy, proxy_to

AGENTS, CAPACITY = 2, 10
JOBS = AGENTS * CAPACITY
LINES = 60
LEASE = 30
WORK = f"for i in $(seq {LINES}); do echo line $i; echo $i >> n; sleep 0.1; done"


def jobs(script: str, count: int = JOBS) -> str:
    return "".join(f"job{number}: {{stage: build, script: ['{script}']}}\n" for number in range(count))


class Scene:
    """A product whose agents are behind a proxy, and a run of theirs that is being read."""

    def __init__(self, product: Product, api: Api, proxy: Proxy, reader: Reader) -> None:
        self.product = product
        self.api = api
        self.proxy = proxy
        self.reader = reader

    def progress(self) -> list[int]:
        """How many lines each job has printed, from what it keeps in its directory: nobody else need know of them."""
        found = []
        # Not Path.glob: it fails when a directory goes while it looks.
        for file in glob.glob(f"{self.product.folder}/agent*/*/*/**/n", recursive=True):
            with contextlib.suppress(OSError):
                found.append(len(Path(file).read_bytes().split()))
        return found

    async def all_print(self, lines: int, count: int = JOBS) -> None:
        """Waits until all jobs have printed so many lines."""
        await until(lambda: len(self.progress()) == count and min(self.progress()) >= lines, f"{lines} lines of each")

    async def ends_well(self, lines: int = LINES, count: int = JOBS, attempt: int = 0) -> None:
        """The run succeeds, no job was repeated, and every line was stored and shown once."""
        run = self.reader.run_id
        assert await self.api.ended(run, 120) == "success", self.product.log()
        await until(lambda: self.reader.end, "the reader was told the end")
        await self.reader.compare(self.api)
        found = await self.api.jobs(run)
        assert len(found) == count
        assert [job.get("attempt", 0) for job in found] == [attempt] * count
        for job in found:
            printed = [text for text in self.reader.last_attempt(job["id"]) if text.startswith("line ")]
            assert printed == [f"line {number}" for number in range(1, lines + 1)]


@contextlib.asynccontextmanager
async def scene(
    product: Product, folder: Path, script: str = WORK, *, count: int = JOBS, lease: int = LEASE
) -> AsyncIterator[Scene]:
    """The jobs are running, `count` of them on AGENTS agents, and lines have been seen."""
    product.environment["GOCDNEXT_AGENT_LEASE"] = f"{lease}s"
    product.start()
    async with proxy_to(product.grpc_port) as proxy, api_of(product) as api, trio.open_nursery() as nursery:
        names = [f"agent{number}" for number in range(AGENTS)]
        for name in names:
            product.agent(name, CAPACITY, port=proxy.port)
        await api.online(*names)
        reader = Reader(product, await api.start(make_repository(folder / "repository", jobs(script, count))))
        nursery.start_soon(reader.run)
        await api.running(reader.run_id, count)
        await until(lambda: reader.seen, "a line")
        yield Scene(product, api, proxy, reader)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_server_that_restarts_loses_no_job_and_no_line(product: Product, quick_dir: Path, how: str) -> None:
    async with scene(product, quick_dir) as it:
        await it.all_print(5)
        assert product.stop() == 0 if how == "stop" else product.kill() is None
        await it.all_print(min(max(it.progress()) + 10, LINES - 20))
        await trio.to_thread.run_sync(product.start)
        await it.ends_well()


@pytest.mark.slow
async def test_jobs_that_end_while_the_server_is_away(product: Product, quick_dir: Path) -> None:
    async with scene(product, quick_dir, WORK.replace("sleep 0.1", "sleep 0.05")) as it:
        await it.all_print(1)
        product.kill()
        await until(lambda: not it.progress(), "all jobs have ended and their directories are gone")
        await trio.to_thread.run_sync(product.start)
        await it.ends_well()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut", "hold"])
async def test_a_network_that_breaks_loses_no_job_and_no_line(product: Product, quick_dir: Path, how: str) -> None:
    async with scene(product, quick_dir) as it:
        await it.all_print(5)
        getattr(it.proxy, how)()
        await it.all_print(30)
        it.proxy.mend()
        await it.ends_well()


@pytest.mark.slow
async def test_a_network_that_swallows_everything_until_the_agents_dial_again(
    product: Product, quick_dir: Path
) -> None:
    async with scene(product, quick_dir, lease=12) as it:
        dialled = it.proxy.connections
        it.proxy.hold()
        await until(lambda: it.proxy.connections >= dialled + AGENTS, "they have given the old connections up")
        it.proxy.mend()
        await it.ends_well()


@pytest.mark.slow
async def test_one_break_after_the_other(product: Product, quick_dir: Path) -> None:
    async with scene(product, quick_dir) as it:
        for lines in (5, 15, 25, 35, 45):
            await it.all_print(lines)
            it.proxy.cut()
            it.proxy.mend()
        await it.ends_well()


@pytest.mark.slow
async def test_a_flood_through_a_restart_and_a_cut(product: Product, quick_dir: Path) -> None:
    lines = 150_000
    script = f'seq {lines} | sed "s/^/line /"'
    async with scene(product, quick_dir, script, count=2) as it:
        await until(lambda: len(it.reader.seen) > 10_000, "a good part")
        product.kill()
        await trio.to_thread.run_sync(product.start)
        seen = len(it.reader.seen)
        await until(lambda: len(it.reader.seen) > seen + 20_000, "more of it")
        it.proxy.cut()
        it.proxy.mend()
        await it.ends_well(lines, count=2)


@pytest.mark.slow
async def test_after_the_lease_the_jobs_are_stopped_and_repeated(product: Product, quick_dir: Path) -> None:
    async with scene(product, quick_dir, WORK, count=2, lease=4) as it:
        it.proxy.cut()
        roots = [quick_dir / f"agent{number}" for number in range(AGENTS)]
        await until(lambda: not any(processes_of(root) for root in roots), "no process of a job is left")
        await until(lambda: not it.progress(), "nothing of them is left")
        assert [job["status"] for job in await it.api.jobs(it.reader.run_id)] == ["running"] * 2
        it.proxy.mend()
        await it.ends_well(count=2, attempt=1)


@pytest.mark.slow
async def test_a_cancel_reaches_an_agent_when_it_is_back(product: Product, quick_dir: Path) -> None:
    script = "echo 1 >> n; while :; do echo line; sleep 0.1; done"
    async with scene(product, quick_dir, script, count=2) as it:
        await it.all_print(1, count=2)
        it.proxy.cut()
        response = await it.api.request("POST", f"/api/v1/runs/{it.reader.run_id}/cancel")
        assert response.status_code == 204
        assert len(it.progress()) == 2
        it.proxy.mend()
        await until(lambda: not it.progress(), "the jobs are stopped")
        await until(lambda: it.reader.end == "canceled", "the reader was told the end")
        await it.reader.compare(it.api)


@pytest.mark.slow
async def test_an_agent_that_is_stopped_in_a_break_leaves_its_jobs_to_others(product: Product, quick_dir: Path) -> None:
    async with scene(product, quick_dir, count=2) as it:
        it.proxy.cut()
        for agent in product.agents:
            agent.terminate()
        await until(lambda: not it.progress(), "the jobs were stopped: these agents have no time to drain")
        it.proxy.mend()
        for agent in product.agents:
            assert await trio.to_thread.run_sync(agent.wait, 30) == 0
        for name in ("agent0", "agent1"):
            product.agent(name, CAPACITY, port=it.proxy.port)
        await it.ends_well(count=2, attempt=1)


@pytest.mark.nightly
@pytest.mark.parametrize("how", ["server", "network"])
async def test_a_minute_without_a_server_and_half_a_minute_without_a_network(
    product: Product, quick_dir: Path, how: str
) -> None:
    script = WORK.replace(str(LINES), "900")
    async with scene(product, quick_dir, script, lease=75) as it:
        await it.all_print(5)
        if how == "server":
            product.kill()
            await trio.sleep(55)
            await trio.to_thread.run_sync(product.start)
        else:
            it.proxy.hold()
            await trio.sleep(30)
            it.proxy.mend()
        await it.ends_well(900)
