"""Two servers on one external database: runs go where agents are, logs and cancels too, and either may be killed."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.e2e.harness import ROOT
from tests.e2e.product import Product, Reader, api_of, make_repository, product_in, until
from tests.e2e.proxy import RoundRobin, proxy_to

JOBS = "one: {stage: build, script: ['for i in 1 2 3 4 5; do echo line $i; done']}"
LONG = "one: {stage: build, script: ['echo begun; sleep 600']}"


@pytest.fixture
def two(quick_dir: Path, empty_database_url: str) -> Iterator[tuple[Product, Product]]:
    """Two servers that are not started yet, each with a state directory and ports of its own. They share what servers of
    one database have to share: a directory of blobs, and keys."""
    (quick_dir / "a").mkdir()
    (quick_dir / "b").mkdir()
    with product_in(quick_dir / "a") as first, product_in(quick_dir / "b") as second:
        for product in (first, second):
            product.environment |= {
                "GOCDNEXT_DATABASE_URL": empty_database_url,
                "GOCDNEXT_ARTIFACTS_FS_ROOT": str(quick_dir / "blobs"),
                "GOCDNEXT_ARTIFACTS_SIGN_KEY": "5" * 64,
                "GOCDNEXT_SECRET_KEY": "7" * 64,
            }
        yield first, second


@pytest.fixture
def pair(two: tuple[Product, Product]) -> tuple[Product, Product]:
    """The same, started; the first one makes the schema."""
    for product in two:
        product.start()
    return two


async def test_a_run_goes_to_the_server_that_has_the_agent(pair: tuple[Product, Product], quick_dir: Path) -> None:
    first, second = pair
    second.agent("far")
    repository = make_repository(quick_dir / "repository", JOBS)
    async with api_of(first) as here, api_of(second) as there:
        await there.online("far")
        run = await here.start(repository)
        assert await here.ended(run) == "success"
        job = (await here.jobs(run))[0]["id"]
        assert [f"line {n}" in await here.log(run, job) for n in range(1, 6)] == [True] * 5


async def test_a_reader_and_a_cancel_on_the_other_server(pair: tuple[Product, Product], quick_dir: Path) -> None:
    first, second = pair
    second.agent("far")
    repository = make_repository(quick_dir / "repository", LONG)
    async with api_of(first) as here, api_of(second) as there, trio.open_nursery() as nursery:
        await there.online("far")
        run = await here.start(repository)
        await here.running(run)
        reader = Reader(first, run)
        nursery.start_soon(reader.run)
        await until(lambda: any("begun" in seen.text for seen in reader.seen), "the line is here")
        answer = await here.request("POST", f"/api/v1/runs/{run}/cancel")
        assert answer.status_code == 204

        async def stopped() -> bool:
            return (await there.jobs(run))[0]["status"] == "canceled"

        await until(stopped, "the agent of the other server was told")
        nursery.cancel_scope.cancel()


async def test_the_server_with_the_agent_is_killed(pair: tuple[Product, Product], quick_dir: Path) -> None:
    first, second = pair
    second.agent("far")
    repository = make_repository(quick_dir / "repository", JOBS.replace("do echo", "do sleep 0.3; echo"))
    async with api_of(first) as here, api_of(second) as there:
        await there.online("far")
        run = await here.start(repository)
        await here.running(run)
        second.kill()
        second.start()
        assert await here.ended(run, 60) == "success"
        assert len([job for job in await here.jobs(run) if job["status"] == "success"]) == 1


async def test_an_agent_goes_on_at_the_other_server(pair: tuple[Product, Product], quick_dir: Path) -> None:
    """A proxy is the name that agents dial; it leads to the server that lives."""
    first, second = pair
    script = "for i in $(seq 60); do echo line $i; sleep 0.1; done"
    repository = make_repository(quick_dir / "repository", f"one: {{stage: build, script: ['{script}']}}")
    async with proxy_to(first.grpc_port) as proxy, api_of(second) as api, trio.open_nursery() as nursery:
        first.agent("wanderer", port=proxy.port)
        await api.online("wanderer")
        run = await api.start(repository)
        reader = Reader(second, run)
        nursery.start_soon(reader.run)
        await until(lambda: len(reader.seen) > 10, "lines")
        proxy.target = second.grpc_port
        first.kill()
        assert await api.ended(run) == "success"
        await until(lambda: reader.end, "the reader was told the end")
        await reader.compare(api)
        (job,) = await api.jobs(run)
        assert job.get("attempt", 0) == 0
        assert [text for text in reader.last_attempt(job["id"]) if text.startswith("line ")][-1] == "line 60"


RUNS = 6
UNDER_LOAD = """
{name}:
  stage: build
  script:
    - 'echo once >> {ran}; for i in $(seq 80); do echo {name} line $i; sleep 0.02; done; echo {name} > {name}.txt'
  artifacts: {{paths: [{name}.txt]}}
"""


@pytest.mark.slow
async def test_one_of_two_is_killed_under_load(two: tuple[Product, Product], quick_dir: Path) -> None:
    """Behind a proxy, as a grown site has it: agents, readers and people know one name. Nothing is lost or doubled."""
    first, second = two
    ran = quick_dir / "ran"
    jobs = "".join(UNDER_LOAD.format(name=name, ran=ran) for name in ("left", "right"))
    repository = make_repository(quick_dir / "repository", jobs)
    async with trio.open_nursery() as nursery:
        doors, calls = (RoundRobin([getattr(p, door) for p in two]) for door in ("http_port", "grpc_port"))
        await nursery.start(doors.run)
        await nursery.start(calls.run)
        for product in two:
            product.environment["GOCDNEXT_ARTIFACTS_PUBLIC_BASE"] = f"http://127.0.0.1:{doors.port}"
            product.start()
        face = copy.copy(first)
        face.url = f"http://127.0.0.1:{doors.port}"
        for name in ("one", "two", "three", "four"):
            first.agent(name, 2, port=calls.port)
        async with api_of(face) as api:
            await api.online("one", "two", "three", "four")
            pipeline = await api.apply(repository)
            readers = [Reader(face, await api.trigger(pipeline)) for _ in range(RUNS)]
        for reader in readers:
            nursery.start_soon(reader.run)
        await until(lambda: sum(len(reader.seen) for reader in readers) > 100, "lines")
        first.kill()
        async with api_of(second) as api:
            for reader in readers:
                assert await api.ended(reader.run_id) == "success"
            await until(lambda: all(reader.end for reader in readers), "every reader was told the end")
            first.start()
            attempts = 0
            for reader in readers:
                await reader.compare(api)
                rows = await api.jobs(reader.run_id)
                assert sorted(row["name"] for row in rows) == ["left", "right"]
                attempts += sum(row.get("attempt", 0) + 1 for row in rows)
                for artifact in await api.get(f"/api/v1/runs/{reader.run_id}/artifacts"):
                    assert artifact["status"] == "ready"
                    kept = await api.http.get(artifact["download_url"])
                    assert hashlib.sha256(kept.content).hexdigest() == artifact["content_sha256"]
            assert len(ran.read_text().splitlines()) <= attempts, "no attempt ran twice"
            counters = [(await api.run(reader.run_id))["counter"] for reader in readers]
            assert sorted(counters) == [*range(1, RUNS + 1)]
        # The one that was killed takes part again.
        async with api_of(first) as api:
            assert await api.ended(await api.trigger(pipeline)) == "success"
        nursery.cancel_scope.cancel()


def next_version(folder: Path) -> Path:
    """A checkout of the version after this one: it has a migration more."""
    for part in ("gocdnext", "sql", "plugins"):
        shutil.copytree(ROOT / part, folder / part)
    migrations = folder / "sql" / "migrations"
    number = len(list(migrations.glob("*.sql"))) + 1
    (migrations / f"{number:04}_next.sql").write_text(
        "ALTER TABLE projects ADD COLUMN next_thing text NOT NULL DEFAULT '';\n"
        "CREATE TABLE next_things (id uuid PRIMARY KEY);\n"
    )
    return folder


@pytest.mark.slow
async def test_two_servers_of_different_versions(two: tuple[Product, Product], quick_dir: Path) -> None:
    """A rolling upgrade: the older server works on while the newer one has migrated already, and does not start again."""
    older, newer = two
    older.start()
    older.agent("agent")
    repository = make_repository(quick_dir / "repository", LONG.replace("sleep 600", "sleep 1"))
    newer.environment["PYTHONPATH"] = str(next_version(quick_dir / "next"))
    async with api_of(older) as before, api_of(newer) as after:
        await before.online("agent")
        pipeline = await before.apply(repository)
        under_way = await before.trigger(pipeline)
        await before.running(under_way)
        newer.start()
        assert await after.ended(under_way) == "success", "what was under way goes on"
        assert await after.ended(await before.trigger(pipeline)) == "success"
        assert await before.ended(await after.trigger(pipeline)) == "success", "the agent is still at the older one"
        assert await before.apply(repository) == pipeline
    older.kill()
    said = older.call("serve", "--state", older.state, check=False)
    assert said.returncode == 1
    assert "a later gocdnext has used it" in said.stdout + said.stderr
    assert newer.ready()
