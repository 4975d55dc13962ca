"""What goes when its time is over, and what stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import trio
import trio_asyncio

from gocdnext.blobs import sweeping
from gocdnext.blobs.room import Blobs
from gocdnext.db.pool import Connection, Database
from gocdnext.sweepers import blobs as sweeper
from tests.blob_room import blobs_in
from tests.service.blobs.conftest import db as database_fixture
from tests.service.logs.seed import Seeded, finish_run, running_run

db = database_fixture
NOW = datetime.now(UTC)
MONTH = timedelta(days=30)
LATER = NOW + timedelta(hours=2)
"""When what was buried now is removed."""


@pytest.fixture
def room(db: Database, tmp_path: Path) -> Blobs:
    return blobs_in(tmp_path, db)


async def pieces() -> AsyncIterator[bytes]:
    yield b"x"


async def artifact(
    db: Database,
    room: Blobs,
    run: Seeded,
    path: str,
    *,
    expires: timedelta,
    status: str = "ready",
    age: timedelta = MONTH,
) -> str:
    """A row and its blob; the blob's key."""
    key = f"run/{run.run_id}/job/{run.job_ids[0]}/{path.replace(' ', '-')}"
    await room.store.put(key, pieces())
    await db.execute(
        "INSERT INTO artifacts (id, run_id, job_run_id, path, storage_key, status, size_bytes, content_sha256,"
        " created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, 1, 'x', $7, $8)",
        uuid4(),
        run.run_id,
        run.job_ids[0],
        path,
        key,
        status,
        NOW - age,
        NOW + expires,
    )
    return key


async def cache(db: Database, room: Blobs, run: Seeded, key: str, *, read: timedelta, status: str = "ready") -> str:
    """The same for a cache that was last read so long ago."""
    storage_key = f"cache/p/{key.replace(' ', '-')}"
    await room.store.put(storage_key, pieces())
    await db.execute(
        "INSERT INTO caches (id, project_id, key, storage_key, status, job_run_id, size_bytes, content_sha256,"
        " created_at, updated_at, last_accessed_at)"
        " SELECT $1, p.project_id, $3, $4, $5, $6, 1, 'x', $7, $7, $7"
        " FROM runs r JOIN pipelines p ON p.id = r.pipeline_id WHERE r.id = $2",
        uuid4(),
        run.run_id,
        key,
        storage_key,
        status,
        run.job_ids[0],
        NOW - read,
    )
    return storage_key


async def finished(db: Database) -> Seeded:
    run = await running_run(db)
    await finish_run(db, run)
    return run


async def kept(db: Database, room: Blobs) -> set[str]:
    """The keys of all blobs that are there."""
    return {blob.key for prefix in ("run", "cache") async for page in room.store.pages(prefix) for blob in page}


async def test_expired_artifacts_go_and_their_blobs_a_little_later(db: Database, room: Blobs) -> None:
    run = await finished(db)
    gone = await artifact(db, room, run, "old", expires=-timedelta(seconds=1))
    stays = await artifact(db, room, run, "new", expires=timedelta(seconds=1))
    assert await sweeping.sweep(db, room.store, MONTH, NOW) == 1
    assert await db.fetch("SELECT storage_key FROM artifacts") == [(stays,)]
    assert await kept(db, room) == {gone, stays}, "somebody may hold a link"
    await db.execute("UPDATE artifacts SET expires_at = $1", LATER + MONTH)
    assert await sweeping.sweep(db, room.store, MONTH, LATER) == 1
    assert await kept(db, room) == {stays}
    assert await db.fetchval("SELECT count(*) FROM dead_blobs") == 0


async def test_nothing_goes_that_an_open_run_may_fetch(db: Database, room: Blobs) -> None:
    upstream, downstream = await running_run(db), await running_run(db)
    await db.execute("UPDATE runs SET upstream_run_id = $2 WHERE id = $1", downstream.run_id, upstream.run_id)
    await artifact(db, room, upstream, "lib", expires=-MONTH)
    assert await sweeping.sweep(db, room.store, MONTH, NOW) == 0
    await finish_run(db, upstream)
    assert await sweeping.sweep(db, room.store, MONTH, NOW) == 0
    await finish_run(db, downstream)
    assert await sweeping.sweep(db, room.store, MONTH, NOW) == 1


async def test_uploads_that_were_given_up(db: Database, room: Blobs) -> None:
    run, old = await running_run(db), timedelta(minutes=31)
    done = await finished(db)
    await artifact(db, room, run, "confirmed when the job ends", expires=MONTH, status="pending", age=old)
    await artifact(db, room, done, "young", expires=MONTH, status="pending", age=timedelta(minutes=29))
    await artifact(db, room, done, "given up", expires=MONTH, status="pending", age=old)
    await artifact(db, room, run, "never came", expires=MONTH, status="pending", age=old)
    await db.execute("UPDATE artifacts SET size_bytes = NULL, content_sha256 = NULL WHERE path = 'never came'")
    await cache(db, room, run, "given up", read=old, status="pending")
    await cache(db, room, run, "young", read=timedelta(minutes=29), status="pending")
    assert await sweeping.sweep(db, room.store, MONTH, NOW) == 3
    rows = await db.fetch("SELECT path FROM artifacts UNION ALL SELECT key FROM caches ORDER BY 1")
    assert [row["path"] for row in rows] == ["confirmed when the job ends", "young", "young"]


@pytest.mark.parametrize(("life", "left"), [(MONTH, ["fresh"]), (None, ["fresh", "stale"])])
async def test_caches_that_nobody_reads(db: Database, room: Blobs, life: timedelta | None, left: list[str]) -> None:
    run = await finished(db)
    await cache(db, room, run, "stale", read=MONTH + timedelta(days=1))
    await cache(db, room, run, "fresh", read=MONTH - timedelta(days=1))
    await sweeping.sweep(db, room.store, life, NOW)
    assert [row["key"] for row in await db.fetch("SELECT key FROM caches ORDER BY key")] == left


async def test_a_deleted_project_takes_its_blobs_along(db: Database, room: Blobs) -> None:
    run = await finished(db)
    await artifact(db, room, run, "a", expires=MONTH)
    await cache(db, room, run, "c", read=timedelta())
    await db.execute("DELETE FROM projects")
    assert await sweeping.sweep(db, room.store, MONTH, LATER) == 2
    assert await kept(db, room) == set()


async def test_batches_are_bounded_and_go_on(db: Database, room: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "BATCH", 2)
    monkeypatch.setattr(sweeping, "MAX_BATCHES", 2)
    run = await finished(db)
    for number in range(7):
        await artifact(db, room, run, str(number), expires=-MONTH)
    assert [await sweeping.sweep(db, room.store, None, NOW) for _ in range(3)] == [4, 3, 0]


async def test_a_blob_that_cannot_be_removed_does_not_stop_the_others(
    db: Database, room: Blobs, tmp_path: Path
) -> None:
    run = await finished(db)
    stuck = await artifact(db, room, run, "stuck", expires=-MONTH)
    other = await artifact(db, room, run, "other", expires=-MONTH)
    await sweeping.sweep(db, room.store, None, NOW)
    path = tmp_path / "artifacts" / stuck
    path.unlink()
    path.mkdir()
    (path / "in the way").write_text("")
    await sweeping.sweep(db, room.store, None, LATER)
    assert not (tmp_path / "artifacts" / other).exists()
    assert await db.fetch("SELECT storage_key, since FROM dead_blobs") == [(stuck, LATER)]


async def test_one_server_at_a_time(db: Database, room: Blobs) -> None:
    run = await finished(db)
    await artifact(db, room, run, "a", expires=-MONTH)

    async def work(conn: Connection) -> int:
        assert await conn.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended('gocdnext.sweep.blobs', 0))")
        return await trio_asyncio.trio_as_aio(sweeping.sweep)(db, room.store, None, NOW)

    assert await db.transaction(work) == 0
    assert await sweeping.sweep(db, room.store, None, NOW) == 1


async def test_files_that_no_row_knows(db: Database, room: Blobs, tmp_path: Path) -> None:
    """A server was killed between the file and its row."""
    run = await finished(db)
    known = await artifact(db, room, run, "known", expires=MONTH)
    buried = await artifact(db, room, run, "buried", expires=-MONTH)
    await sweeping.sweep(db, room.store, None, NOW)
    for key in ("run/lost", "cache/lost", "run/young", "other/of-somebody-else"):
        await room.store.put(key, pieces())
    long_ago = (NOW - timedelta(hours=2)).timestamp()
    for path in (tmp_path / "artifacts").rglob("*"):
        if path.is_file() and path.name != "young":
            os.utime(path, (long_ago, long_ago))
    assert await sweeping.sweep_lost(db, room.store, datetime.now(UTC)) == 2
    assert await kept(db, room) == {known, buried, "run/young"}
    assert (tmp_path / "artifacts/other/of-somebody-else").exists()


async def test_the_sweeper_goes_on_when_its_disk_does_not(
    db: Database, room: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that fails is tried again."""
    passes = 0
    done = trio.Event()

    async def sweep(*_: object, **__: object) -> int:
        nonlocal passes
        passes += 1
        if passes == 3:
            done.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sweeping, "sweep", sweep)
    monkeypatch.setattr(sweeper, "EVERY", 0.001)
    monkeypatch.setattr(sweeper, "FIRST", 0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweeper.run, db, room.store, None, lambda: NOW)
        with trio.fail_after(10):
            await done.wait()
        nursery.cancel_scope.cancel()
