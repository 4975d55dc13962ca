"""The statements about artifacts and caches stay on their indexes when there are many (design 6)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from gocdnext.db import queries
from gocdnext.db.pool import Database
from tests.service.blobs.conftest import db as database_fixture
from tests.service.logs.seed import finish_run, running_run

db = database_fixture
LARGE = {"artifacts", "caches", "dead_blobs"}
NOW = datetime.now(UTC)


def scanned(plan: Any) -> Iterator[str]:
    """Tables that a plan reads from end to end; parts that never ran have no bearing."""
    if isinstance(plan, dict):
        if plan.get("Node Type") == "Seq Scan" and plan.get("Actual Loops"):
            yield plan["Relation Name"]
        for value in plan.values():
            yield from scanned(value)
    elif isinstance(plan, list):
        for value in plan:
            yield from scanned(value)


async def test_no_statement_reads_a_whole_table(db: Database) -> None:
    seeded = await running_run(db, jobs=2000)
    await finish_run(db, seeded)
    await db.execute(
        "INSERT INTO artifacts (id, run_id, job_run_id, path, storage_key, status, size_bytes, content_sha256,"
        " created_at, expires_at) SELECT gen_random_uuid(), j.run_id, j.id, n::text, j.id || '/' || n, 'ready', 1, '',"
        " $1, $1::timestamptz + interval '1 day' FROM job_runs j, generate_series(1, 10) AS n",
        NOW,
    )
    await db.execute(
        "INSERT INTO caches (id, project_id, key, storage_key, status, job_run_id, created_at, updated_at,"
        " last_accessed_at) SELECT gen_random_uuid(), p.id, n::text, 'cache/' || n, 'ready', gen_random_uuid(), $1, $1, $1"
        " FROM projects p, generate_series(1, 20000) AS n",
        NOW,
    )
    await db.execute("INSERT INTO dead_blobs (storage_key) SELECT n::text FROM generate_series(1, 20000) AS n")
    other = await running_run(db)
    fetching = {"name": "main", "stages": ["build"], "jobs": [{"needs_artifacts": []}]}
    await db.execute("UPDATE pipeline_definitions SET definition = $1", fetching)
    await db.execute("ANALYZE")
    job, run, agent = other.job_ids[0], other.run_id, other.agent_id
    sql, runs = queries.load("blobs"), queries.load("runs")
    long_ago = NOW - timedelta(days=1)
    for name, statement, arguments in (
        ("job_exists", sql.job_exists, (job, run)),
        ("open_artifacts", sql.open_artifacts, (job, run, agent, 0, [uuid4()], ["a"], NOW, 60)),
        ("confirm_artifacts", sql.confirm_artifacts, (job, run, agent, 0, ["k"], ["a"], [1], [""], True)),
        ("artifacts_of_run", sql.artifacts_of_run, (run,)),
        ("upload_status", sql.upload_status, ("k",)),
        ("record_upload", sql.record_upload, ("k", 1, "")),
        ("find_cache", sql.find_cache, (run, "1", NOW)),
        ("open_cache", sql.open_cache, (job, run, agent, 0, uuid4(), "k", NOW)),
        ("cache_upload", sql.cache_upload, (uuid4(),)),
        ("drop_expired_artifacts", sql.drop_expired_artifacts, (NOW, 500, 3)),
        ("drop_stale_uploads", sql.drop_stale_uploads, (long_ago, 500)),
        ("drop_unused_caches", sql.drop_unused_caches, (long_ago, 500)),
        ("dead_blobs", sql.dead_blobs, (long_ago, 500)),
        ("set_pins", sql.set_pins, (run, ["a"], NOW)),
        ("unknown_blobs", sql.unknown_blobs, (["a", "b"],)),
        ("load_runs", runs.load_runs, ([run],)),
    ):
        explained = await db.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", *arguments)
        assert not LARGE & set(scanned(json.loads(explained)[0]["Plan"])), name
