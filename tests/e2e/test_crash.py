"""Server, PostgreSQL and agent are killed in the middle of a run, and nothing that was acknowledged is lost.

"Acknowledged" is what a reader of the event stream was given. GOCDNEXT_TEST_KILLS makes the random test longer.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.e2e.harness import Server
from tests.e2e.product import Product, Reader, api_of, make_repository, processes_of, until
from tests.e2e.test_serve import make_repository as make_one_job

KILLS = int(os.environ.get("GOCDNEXT_TEST_KILLS", "10"))
SEED = int(os.environ.get("GOCDNEXT_TEST_SEED", "3"))
LINES = 40
SEEN_BEFORE_THE_KILL = 8
LONG_JOB = f"for i in $(seq {LINES}); do echo line $i; sleep 0.05; done"


@pytest.mark.slow
def test_a_killed_server_comes_back_with_the_run(server: Server, public_dir: Path) -> None:
    repository = make_one_job(public_dir / "repository", LONG_JOB)
    server.start("--local-agent")
    server.call("apply", repository, "--slug", "demo")
    server.call("trigger", "demo/ci")
    follower = subprocess.Popen(
        [sys.executable, server.program, "logs", "-f", "--plain", "demo/ci"],
        env=server.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout is not None
        seen: list[str] = []
        while sum(line.startswith("line ") for line in seen) < SEEN_BEFORE_THE_KILL:
            seen.append(follower.stdout.readline())
            assert seen[-1], server.log()
        server.kill()
        server.start("--local-agent")
        # The same reader goes on by itself, behind the last line that it has, until the run has ended.
        rest, errors = follower.communicate(timeout=120)
    finally:
        follower.kill()
    assert follower.returncode == 0, errors + server.log()
    assert f"line {LINES}" in rest
    run = json.loads(server.call("run", "show", "--json", "demo/ci#1").stdout)
    assert run["status"] == "success"
    stored = server.call("logs", "--plain", "demo/ci").stdout.splitlines()
    assert [line for line in stored if line.startswith("line ")] == [f"line {i}" for i in range(1, LINES + 1)]
    assert {line.rstrip("\n") for line in seen} <= set(stored)
    assert server.stop() == 0


# Many short jobs: a job that is hit more than three times is failed for good, and rightly so.
SHORT_JOBS = "".join(
    f"job{number}: {{stage: build, script: ['for i in $(seq 150); do echo {number} line $i; sleep 0.003; done']}}\n"
    for number in range(6)
)


@pytest.mark.slow
async def test_killed_at_random_moments_it_finishes_its_runs(product: Product, quick_dir: Path) -> None:
    chance = random.Random(SEED)
    repository = make_repository(quick_dir / "repository", SHORT_JOBS)
    product.start("--local-agent")
    product.agent("beside")
    readers: list[Reader] = []
    async with api_of(product) as api, trio.open_nursery() as nursery:
        pipeline = await api.apply(repository)

        async def read() -> None:
            readers.append(Reader(product, await api.trigger(pipeline)))
            nursery.start_soon(readers[-1].run)

        await read()
        for _ in range(KILLS):
            # The moment counts from a line that was seen, so that kills hit work and not only starts.
            before = len(readers[-1].seen)
            await until(lambda n=before: len(readers[-1].seen) > n or readers[-1].end, "a line")
            if readers[-1].end:
                await read()
            await trio.sleep(chance.uniform(0, 1.5))
            postmaster = product.postmaster()
            if chance.random() < 0.5:
                # PostgreSQL's own end after ours is a clean one: half of the time it does not get to that.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(postmaster, signal.SIGKILL)
            product.kill()
            await trio.to_thread.run_sync(product.start, "--local-agent")
        for reader in readers:
            await api.ended(reader.run_id)
        await until(lambda: all(reader.end for reader in readers), "every reader was told the end")
        for reader in readers:
            await reader.compare(api)
            for job in await api.jobs(reader.run_id):
                # Nothing but repetition may have failed a job: its script cannot.
                assert job["status"] == "success" or "before completion" in job["error"], job
    assert sum(len(reader.seen) for reader in readers) > 150
    assert product.stop() == 0


LONG = "one: {stage: build, script: ['for i in $(seq 1500); do echo line $i; sleep 0.002; done']}\n"


@pytest.mark.slow
async def test_a_killed_postmaster_is_only_a_pause(product: Product, quick_dir: Path) -> None:
    repository = make_repository(quick_dir / "repository", LONG)
    product.start()
    product.agent("runner")
    async with api_of(product) as api, trio.open_nursery() as nursery:
        await api.online("runner")
        run = await api.start(repository)
        reader = Reader(product, run)
        nursery.start_soon(reader.run)
        done = trio.Event()

        async def ask() -> None:
            """`Api` checks that nothing is ever answered 500 or 401, and that a 503 says when to come back."""
            while not done.is_set():
                await api.request("GET", f"/api/v1/runs/{run}?logs=10")
                await api.request("GET", "/readyz")

        nursery.start_soon(ask)
        for count in (100, 500):
            await until(lambda n=count: len(reader.seen) > n, "lines")
            os.kill(product.postmaster(), signal.SIGKILL)
        await until(lambda: len(reader.seen) > 1000, "lines after the kill")
        os.kill((await until(product.backends, "connections"))[0], signal.SIGTERM)
        assert await api.ended(run) == "success"
        await until(lambda: reader.end, "the reader was told the end")
        done.set()
        await reader.compare(api)
        (job,) = await api.jobs(run)
        assert job.get("attempt", 0) == 0, "the job was repeated though its agent never went away"
    assert 503 in api.statuses
    assert product.process is not None
    assert product.process.poll() is None
    assert product.stop() == 0


@pytest.mark.slow
async def test_a_killed_agent_leaves_nothing_and_its_job_is_repeated(product: Product, quick_dir: Path) -> None:
    # The job's child ignores everything that can be ignored and leaves the job's process group.
    flag = quick_dir / "flag"
    script = f"echo start; trap '' TERM INT HUP; until test -e {flag}; do echo tick; sleep 0.05; done"
    repository = make_repository(quick_dir / "repository", f'one: {{stage: build, script: ["{script}"]}}')
    product.start()
    agent = product.agent("runner")
    async with api_of(product) as api, trio.open_nursery() as nursery:
        await api.online("runner")
        run = await api.start(repository)
        reader = Reader(product, run)
        nursery.start_soon(reader.run)
        await until(lambda: len(reader.seen) > 10, "lines")
        agent.kill()
        agent.wait()
        await until(lambda: not processes_of(quick_dir / "runner"), "the job's processes are gone")
        product.agent("runner")
        await until(lambda: [seen.seq for seen in reader.seen].count(1) == 2, "the job began again")
        flag.touch()
        assert await api.ended(run) == "success"
        await until(lambda: reader.end, "the reader was told the end")
        await reader.compare(api)
    assert product.stop() == 0


@pytest.mark.slow
async def test_a_job_that_ignores_signals_is_cancelled(product: Product, quick_dir: Path) -> None:
    script = "trap '' TERM INT HUP; echo up; while :; do sleep 0.1; done"
    repository = make_repository(quick_dir / "repository", f'one: {{stage: build, script: ["{script}"]}}')
    product.start("--local-agent")
    async with api_of(product) as api, trio.open_nursery() as nursery:
        await api.online("local")
        run = await api.start(repository)
        reader = Reader(product, run)
        nursery.start_soon(reader.run)
        await until(lambda: any(seen.text == "up" for seen in reader.seen), "the job is up")
        response = await api.request("POST", f"/api/v1/runs/{run}/cancel")
        assert response.status_code == 204
        assert await api.ended(run) == "canceled"
        await until(lambda: reader.end == "canceled", "the reader was told the end")
        await reader.compare(api)
        assert [job["status"] for job in await api.jobs(run)] == ["canceled"]
        await until(lambda: not processes_of(product.state / "agent"), "the job's processes are gone")
    assert product.stop() == 0
