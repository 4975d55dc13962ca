"""What goes before its time, because there is too much of it; and what stays, because a run may need it yet."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from gocdnext.blobs import sweeping
from gocdnext.blobs.room import Blobs
from gocdnext.config import Quotas
from gocdnext.db.pool import Database
from tests.blob_room import blobs_in
from tests.service.blobs.conftest import db as database_fixture
from tests.service.blobs.test_sweeping import NOW, artifact, cache
from tests.service.logs.seed import finish_run, running_run

db = database_fixture
MONTH = timedelta(days=30)


@pytest.fixture
def room(db: Database, tmp_path: Path) -> Blobs:
    return blobs_in(tmp_path, db)


async def swept(db: Database, room: Blobs, quotas: Quotas) -> tuple[Counter[str], set[str]]:
    """What is told of a pass, and the paths and keys that are left."""
    stats: Counter[str] = Counter()
    await sweeping.sweep(db, room.store, None, NOW, quotas=quotas, stats=stats)
    rows = await db.fetch("SELECT path AS name FROM artifacts UNION ALL SELECT key FROM caches")
    return +stats, {row["name"] for row in rows}


async def test_only_the_newest_runs_keep_their_artifacts(db: Database, room: Blobs) -> None:
    run = await running_run(db)
    await artifact(db, room, run, "a", expires=MONTH)
    await db.execute("UPDATE pipelines SET last_counter = 40")
    await db.execute("UPDATE runs SET counter = 10")
    assert (await swept(db, room, Quotas(keep_last=31)))[1] == {"a"}
    # The run is open: its jobs may fetch it yet, or be repeated.
    assert await swept(db, room, Quotas(keep_last=30)) == (Counter(DemotedKeepLast=1), {"a"})
    await finish_run(db, run)
    assert await swept(db, room, Quotas(keep_last=30)) == (Counter(Claimed=1, BytesFreed=1), set())


@pytest.mark.parametrize("quotas", [Quotas(project=2), Quotas(everything=2)])
async def test_the_oldest_artifacts_go_beyond_a_quota(db: Database, room: Blobs, quotas: Quotas) -> None:
    run = await running_run(db)
    await finish_run(db, run)
    for days, path in ((3, "old"), (2, "newer"), (1, "newest")):
        await artifact(db, room, run, path, expires=MONTH, age=timedelta(days=days))
    stats, left = await swept(db, room, quotas)
    assert left == {"newer", "newest"}
    assert (stats["DemotedProjectCap"], stats["DemotedGlobalCap"]) == (bool(quotas.project), bool(quotas.everything))
    assert (await swept(db, room, quotas))[1] == left


async def test_projects_do_not_share_their_quota(db: Database, room: Blobs) -> None:
    for _ in range(2):
        run = await running_run(db)
        await finish_run(db, run)
        await artifact(db, room, run, "x", expires=MONTH)
    assert (await swept(db, room, Quotas(project=1)))[0] == Counter()
    assert (await swept(db, room, Quotas(everything=1)))[0]["DemotedGlobalCap"] == 1


@pytest.mark.parametrize("quotas", [Quotas(project_caches=2), Quotas(all_caches=2)])
async def test_caches_that_nobody_read_for_longest_go(db: Database, room: Blobs, quotas: Quotas) -> None:
    run = await running_run(db)
    for days, key in ((3, "long ago"), (2, "b"), (1, "c")):
        await cache(db, room, run, key, read=timedelta(days=days))
    await cache(db, room, run, "pending", read=timedelta(0), status="pending")
    await db.execute("UPDATE caches SET created_at = $1, size_bytes = 1", NOW)
    stats, left = await swept(db, room, quotas)
    assert left == {"b", "c", "pending"}
    assert stats["CacheBytesFreed"] == 1
