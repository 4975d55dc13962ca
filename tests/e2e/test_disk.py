"""State directories that cannot be used, and a disk that fills up under a running server (embedded-postgres A5)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.e2e.product import Product, Reader, api_of, make_repository, until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024


@pytest.fixture
def disk(public_dir: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system of so many MiB. To be asked for before `product`, which must have ended when it goes."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        assert os.environ.get("CI") != "true", "these tests mount file systems: run them as root"
        pytest.skip("only root may mount a file system")
    folder = public_dir / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={request.param}m,mode=0755", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        assert os.environ.get("CI") != "true", mounted.stderr
        pytest.skip(f"cannot mount a file system here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def refused(product: Product) -> str:
    """What the server says when it does not start. One line that is meant for people, and exit code 1."""
    done = product.call("serve", "--state", product.state, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert said.count("the server cannot go on") == 1, said
    return said


@pytest.mark.parametrize("disk", [4], indirect=True)
def test_a_full_state_directory_is_refused(disk: Path, product: Product) -> None:
    product.state = disk / "state"
    assert "there is no space left" in refused(product)
    assert not list(product.state.glob("pg/*"))


@pytest.mark.parametrize("disk", [400], indirect=True)
def test_a_read_only_state_directory_is_refused_and_works_again(disk: Path, product: Product) -> None:
    product.state = disk / "state"
    product.start()
    assert product.stop() == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert "read-only" in refused(product)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    product.start()
    assert product.stop() == 0


def test_a_second_server_is_refused_by_name_and_touches_nothing(product: Product) -> None:
    product.start()
    before = {path: path.stat().st_mtime_ns for path in product.state.rglob("*.key")} | {
        path: path.stat().st_mtime_ns for path in (product.state / "conf").iterdir()
    }
    lock = (product.state / "lock").read_text()
    postmaster = product.postmaster()
    said = refused(product)
    assert str(product.pid) in said
    assert str(product.state) in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (product.state / "lock").read_text() == lock
    assert product.postmaster() == postmaster
    assert product.ready()
    assert product.stop() == 0


def fill(file: Path) -> None:
    """Leaves no free byte on the file system of `file`."""
    with file.open("ab", buffering=0) as out, contextlib.suppress(OSError):
        while out.write(bytes(MIB)) == MIB:
            pass
    with file.open("ab", buffering=0) as out, contextlib.suppress(OSError):
        while out.write(bytes(4096)):
            pass


def fill_write_ahead_log(product: Product) -> None:
    """Writes log records until PostgreSQL breaks off the connection."""
    (psql,) = product.state.glob("runtime-*/*/pginstall/bin/psql")
    record = (
        "SELECT count(pg_logical_emit_message(false, 'filling', repeat('x', 1000000))) FROM generate_series(1, 400)"
    )
    command: list[str | Path] = [psql, "-h", product.sockets(), "-U", "ci", "-d", "gocdnext", "-c", record]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr


JOB = "one: {{stage: build, script: ['i=0; until test -e {flag}; do i=$((i+1)); echo line $i; sleep 0.01; done']}}"


@pytest.mark.parametrize("disk", [400], indirect=True)
async def test_a_disk_that_fills_up_is_a_pause(disk: Path, product: Product) -> None:
    """What was acknowledged is there afterwards, and the job that ran all the time ends as if nothing had been."""
    product.state = disk / "state"
    # Nothing holds anything back: the disk is to be full indeed.
    product.environment["GOCDNEXT_DISK_MIN_FREE_MB"] = "0"
    flag, filler = product.folder / "flag", disk / "filler"
    repository = make_repository(product.folder / "repository", JOB.format(flag=flag))
    product.start()
    product.agent("runner")
    async with api_of(product) as api, trio.open_nursery() as nursery:
        await api.online("runner")
        pipeline = await api.apply(repository)
        run = await api.trigger(pipeline)
        reader = Reader(product, run)
        nursery.start_soon(reader.run)
        await until(lambda: len(reader.seen) > 100, "lines")
        for round_ in ("tables", "write-ahead log"):
            fill(filler)
            if round_ == "write-ahead log":
                # Without room for this PostgreSQL ends itself.
                await trio.to_thread.run_sync(fill_write_ahead_log, product)
                await until(lambda: "postgres_waits_for_room" in product.log(), "PostgreSQL has ended")
            # PostgreSQL goes on in the space that it has already; then nothing can be stored any more.
            while (await api.request("POST", f"/api/v1/pipelines/{pipeline}/trigger")).status_code != 503:
                await trio.lowlevel.checkpoint()
            for _ in range(20):
                # `Api` checks that nothing is answered 500 or 401.
                await api.request("GET", f"/api/v1/runs/{run}?logs=10")
                await api.request("GET", "/readyz")
                await api.request("POST", f"/api/v1/pipelines/{pipeline}/trigger")
            before = len(reader.seen)
            filler.unlink()
            await until(lambda n=before: len(reader.seen) > n + 100, "lines come again")
        assert product.process is not None
        assert product.process.poll() is None
        flag.touch()
        assert await api.ended(run) == "success"
        await until(lambda: reader.end, "the reader was told the end")
        await reader.compare(api)
    assert product.stop() == 0


UPLOADS, JOBS = 200, 100
"""Marks in MiB."""


def leave(filler: Path, free: int) -> None:
    """Fills the file system of `filler` until so many MiB are free."""
    status = os.statvfs(filler.parent)
    with filler.open("ab") as out:
        for _ in range((status.f_bavail * status.f_frsize // MIB) - free):
            out.write(bytes(MIB))


@pytest.mark.parametrize("disk", [500], indirect=True)
async def test_uploads_stop_then_jobs_and_all_goes_on_by_itself(disk: Path, product: Product) -> None:
    product.state = disk / "state"
    product.environment |= {
        "GOCDNEXT_ARTIFACTS_MIN_FREE_MB": str(UPLOADS),
        "GOCDNEXT_DISK_MIN_FREE_MB": str(JOBS),
    }
    job = "one: {stage: build, script: ['head -c 1000000 /dev/urandom > app'], artifacts: {paths: [app]}}"
    repository = make_repository(product.folder / "repository", job)
    filler = disk / "filler"
    product.start()
    product.agent("runner")
    async with api_of(product) as api:

        async def levels() -> set[str]:
            return {found["level"] for found in (await api.get("/api/v1/admin/health"))["disks"]}

        async def reaches(level: str) -> None:
            async def there() -> bool:
                return level in await levels()

            await until(there, level)

        await api.online("runner")
        pipeline = await api.apply(repository)
        assert await api.ended(await api.trigger(pipeline)) == "success"
        assert await levels() == {"ok"}
        leave(filler, UPLOADS - 50)
        await reaches("no_uploads")
        run = await api.trigger(pipeline)
        assert await api.ended(run) == "failed"
        assert "an upload must leave 200 MiB free" in (await api.jobs(run))[0]["error"]
        leave(filler, JOBS - 20)
        await reaches("no_jobs")
        run = await api.trigger(pipeline)
        waiting = (await api.run(run))["waiting"]
        assert waiting["code"] == "disk_full"
        assert "less than 100 MiB are free" in waiting["text"]
        ready = await api.request("GET", "/readyz", headers={"Accept": "application/json"})
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "disk": "no_jobs"})
        assert 'gocdnext_disk_level{disk="state"} 2.0' in (await api.request("GET", "/metrics")).text
        assert "a disk gets full" in product.log()
        filler.unlink()
        assert await api.ended(run) == "success"
        assert await levels() == {"ok"}
    assert product.stop() == 0
