"""What goes before its time, because there is too much of it; and what stays, because a run may need it yet."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from gocdnext.blobs import artifacts, sweeping
from gocdnext.blobs.room import Blobs
from gocdnext.config import Quotas
from gocdnext.db.pool import Database
from tests.blob_room import blobs_in
from tests.service.blobs.conftest import db as database_fixture
from tests.service.blobs.test_sweeping import NOW, artifact, cache
from tests.service.logs.seed import Seeded, finish_run, running_run

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


async def successor(db: Database, run: Seeded, *, of: str = "pipeline") -> Seeded:
    """A newer run that has ended: of the same pipeline, or of another that `run` has started (`downstream`)."""
    made = await running_run(db)
    await finish_run(db, made)
    if of == "downstream":
        await db.execute("UPDATE runs SET upstream_run_id = $2 WHERE id = $1", made.run_id, run.run_id)
        await db.execute(
            "UPDATE pipelines p SET last_counter = 1 FROM runs r WHERE r.id = $1 AND p.id = r.pipeline_id", made.run_id
        )
        return made
    await db.execute(
        "UPDATE runs SET counter = 2, pipeline_id = (SELECT pipeline_id FROM runs WHERE id = $2) WHERE id = $1",
        made.run_id,
        run.run_id,
    )
    await db.execute(
        "UPDATE pipelines p SET last_counter = 2 FROM runs r WHERE r.id = $1 AND p.id = r.pipeline_id", run.run_id
    )
    return made


ALL_LIMITS = Quotas(keep_last=1, keep_newest=1, project=1, everything=1)


async def test_what_is_pinned_stays(db: Database, room: Blobs) -> None:
    old = await running_run(db)
    await finish_run(db, old)
    await successor(db, old)
    await artifact(db, room, old, "kept", expires=-MONTH)
    await artifact(db, room, old, "other", expires=-MONTH)
    assert await artifacts.pin(db, old.run_id, ["kept/"], NOW) == 1
    assert (await swept(db, room, ALL_LIMITS))[1] == {"kept"}
    assert await artifacts.pin(db, old.run_id, [], None) == 1
    assert (await swept(db, room, ALL_LIMITS))[1] == set()


async def test_what_a_repeated_job_of_a_newest_run_fetches_stays(db: Database, room: Blobs) -> None:
    """The run that started it is not among the newest of its own pipeline any more."""
    upstream = await running_run(db)
    await finish_run(db, upstream)
    newest = await successor(db, upstream)
    await artifact(db, room, upstream, "lib", expires=MONTH)
    await artifact(db, room, newest, "newest lib", expires=MONTH)
    downstream = await successor(db, upstream, of="downstream")
    assert (await swept(db, room, ALL_LIMITS))[1] == {"lib", "newest lib"}
    await db.execute("UPDATE runs SET upstream_run_id = NULL WHERE id = $1", downstream.run_id)
    assert await swept(db, room, ALL_LIMITS) == (
        Counter(DemotedKeepLast=1, Claimed=1, BytesFreed=1),
        {"newest lib"},
    )


async def test_a_time_that_nobody_said_does_not_take_the_newest(db: Database, room: Blobs) -> None:
    old = await running_run(db)
    await finish_run(db, old)
    newest = await successor(db, old)
    for run, name in ((old, "old"), (newest, "new"), (newest, "said")):
        await artifact(db, room, run, name, expires=-MONTH)
    await db.execute("UPDATE artifacts SET expiry_said = path = 'said'")
    assert (await swept(db, room, Quotas(keep_newest=1)))[1] == {"new"}
    assert (await swept(db, room, Quotas(keep_newest=0)))[1] == set()


async def test_what_stays_counts_first(db: Database, room: Blobs) -> None:
    """So no more of the rest goes than the quota asks for, and no less."""
    run = await running_run(db)
    await finish_run(db, run)
    for days, path in ((9, "pinned"), (2, "older"), (1, "newer")):
        await artifact(db, room, run, path, expires=MONTH, age=timedelta(days=days))
    await artifacts.pin(db, run.run_id, ["pinned"], NOW)
    assert (await swept(db, room, Quotas(project=2)))[1] == {"pinned", "newer"}
