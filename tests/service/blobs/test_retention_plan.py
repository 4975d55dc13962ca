"""The plan says what the next pass does: it is the pass, taken back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import trio_asyncio

from gocdnext.blobs import artifacts, sweeping
from gocdnext.blobs.room import Blobs
from gocdnext.config import Quotas
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import ConflictError
from gocdnext.logs import partitions
from gocdnext.retention import Group, Plan, Rules, plan
from tests.blob_room import blobs_in
from tests.service.blobs.conftest import db as database_fixture
from tests.service.blobs.test_quotas import successor
from tests.service.blobs.test_sweeping import MONTH, NOW, artifact, cache
from tests.service.logs.seed import Seeded, finish_run, running_run

db = database_fixture
DAY = timedelta(days=1)


@pytest.fixture
def room(db: Database, tmp_path: Path) -> Blobs:
    return blobs_in(tmp_path, db)


async def everything(db: Database) -> list[object]:
    """All rows that a sweep may touch."""
    tables = ("artifacts", "caches", "dead_blobs", "webhook_deliveries")
    return [await db.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables]


def told(groups: list[Group]) -> set[tuple[str, str, int, int]]:
    return {(group.kind, group.reason, group.count, group.bytes) for group in groups}


async def seeded(db: Database, room: Blobs) -> Seeded:
    """Two ended runs of a pipeline with something for every rule; the older one."""
    old = await running_run(db)
    await finish_run(db, old)
    await successor(db, old)
    for path in ("over", "over too", "pinned"):
        await artifact(db, room, old, path, expires=-DAY, age=2 * MONTH)
    await artifacts.pin(db, old.run_id, ["pinned"], NOW)
    await artifact(db, room, old, "beyond", expires=MONTH, age=DAY)
    await artifact(db, room, old, "given-up", expires=MONTH, status="pending", age=DAY)
    await cache(db, room, old, "unused", read=2 * MONTH)
    await db.execute(
        "INSERT INTO webhook_deliveries (provider, event, status, http_status, verified, headers, received_at)"
        " VALUES ('github', 'push', 'accepted', 202, TRUE, '{}', $1)",
        NOW - 40 * DAY,
    )
    return old


async def test_the_plan_is_what_the_pass_does(db: Database, room: Blobs) -> None:
    await seeded(db, room)
    quotas = Quotas(keep_last=1)
    before = await everything(db)
    made = await plan(db, Rules(quotas, MONTH, None), NOW)
    assert await everything(db) == before, "it changes nothing"
    assert told(made.goes) == {
        ("artifacts", "expired", 2, 2),
        ("artifacts", "keep_last", 1, 1),
        ("uploads", "given_up", 1, 1),
        ("caches", "unused", 1, 1),
        ("deliveries", "old_deliveries", 1, 0),
    }
    assert told(made.stays) == {("artifacts", "pinned", 1, 1)}
    oldest = {group.reason: group.oldest for group in made.goes}
    assert (oldest["expired"], oldest["old_deliveries"]) == (NOW - 2 * MONTH, NOW - 40 * DAY)
    assert {group.reason: group.why for group in made.goes}["keep_last"] == (
        "more than 1 newer runs of the pipeline are there (GOCDNEXT_ARTIFACTS_KEEP_LAST)"
    )
    assert await sweeping.sweep(db, room.store, MONTH, NOW, quotas=quotas) == 5
    left = await plan(db, Rules(quotas, MONTH, None), NOW + DAY)
    assert told(left.goes) == {("blobs", "removed", 5, 0), ("deliveries", "old_deliveries", 1, 0)}
    assert left.complete


async def test_quotas_are_in_the_plan(db: Database, room: Blobs) -> None:
    run = await seeded(db, room)
    for number in range(3):
        await artifact(db, room, run, f"large {number}", expires=MONTH, age=DAY * number)
        await cache(db, room, run, f"key {number}", read=DAY * number)
    made = await plan(db, Rules(Quotas(project=2, all_caches=2), None, None), NOW)
    # The pinned one counts first.
    assert ("artifacts", "project_quota", 3, 3) in told(made.goes)
    assert ("caches", "global_quota", 2, 2) in told(made.goes)


async def test_why_something_stays_that_is_over(db: Database, room: Blobs) -> None:
    upstream, downstream = await running_run(db), await running_run(db)
    await db.execute("UPDATE runs SET upstream_run_id = $2 WHERE id = $1", downstream.run_id, upstream.run_id)
    await finish_run(db, upstream)
    await artifact(db, room, upstream, "lib", expires=-DAY)
    newest = await running_run(db)
    await finish_run(db, newest)
    await artifact(db, room, newest, "app", expires=-DAY)
    await db.execute("UPDATE artifacts SET expiry_said = path = 'lib'")
    made = await plan(db, Rules(Quotas(keep_newest=1), None, None), NOW)
    assert told(made.goes) == set()
    assert told(made.stays) == {("artifacts", "open_run", 1, 1), ("artifacts", "newest_runs", 1, 1)}


async def test_months_of_log_lines(db: Database) -> None:
    long_ago = NOW - 400 * DAY
    made = await partitions.ensure(db, long_ago, 1)
    rules = Rules(Quotas(), None, 100 * DAY)
    (group,) = (await plan(db, rules, NOW)).goes
    assert (group.kind, group.reason) == ("log_lines", "log_retention")
    assert group.bytes > 0
    assert group.oldest is not None
    assert group.oldest <= long_ago
    assert await partitions.drop(db, NOW - 100 * DAY) == made > 0
    assert (await plan(db, rules, NOW)).goes == []


async def test_while_a_server_sweeps_there_is_no_plan(db: Database) -> None:
    async def sweeping_elsewhere(conn: Connection) -> Plan | None:
        assert await conn.fetchval(queries.load("blobs").try_sweep_lock)
        with pytest.raises(ConflictError, match="ask again"):
            await trio_asyncio.trio_as_aio(plan)(db, Rules(Quotas(), None, None), NOW)
        return None

    await db.transaction(sweeping_elsewhere)
