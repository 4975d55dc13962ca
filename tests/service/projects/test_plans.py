"""The statements behind the lists stay on their indexes when there is history (design 6)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio_asyncio

from gocdnext.db import queries
from gocdnext.db.pool import Database, open_pool
from gocdnext.projects.apply import apply
from gocdnext.projects.figures import Figures
from gocdnext.projects.read import projects
from gocdnext.projects.request import ApplyRequest, SourceText
from tests.api.world import pipeline

LARGE = {"runs", "stage_runs", "job_runs", "modifications"}
NOW = datetime(2026, 4, 28, 13, 0, tzinfo=UTC)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """Ten pipelines with 20,000 finished runs in all, most of them old."""
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=2) as database:
        for project in range(5):
            files = tuple(SourceText(f"{name}.yaml", pipeline(name)) for name in ("a", "b"))
            await apply(database, ApplyRequest(slug=f"p{project}", name="P", files=files), now=NOW, new_id=uuid4)
        await database.execute(
            "WITH made AS (INSERT INTO runs (id, pipeline_id, definition_id, counter, cause, status, created_at,"
            " started_at, finished_at) SELECT gen_random_uuid(), p.id, p.definition_id, n, 'manual', 'success',"
            " $1::timestamptz - n * interval '1 hour', $1::timestamptz - n * interval '1 hour',"
            " $1::timestamptz - n * interval '59 minutes'"
            " FROM pipelines p, generate_series(1, 2000) AS n RETURNING id),"
            " stages AS (INSERT INTO stage_runs (id, run_id, name, ordinal, status)"
            " SELECT gen_random_uuid(), made.id, 'build', 0, 'success' FROM made RETURNING id, run_id)"
            " INSERT INTO job_runs (id, run_id, stage_run_id, name, status)"
            " SELECT gen_random_uuid(), run_id, id, 'compile', 'success' FROM stages",
            NOW,
        )
        await database.execute(
            "INSERT INTO modifications (material_id, revision, branch, detected_at)"
            " SELECT m.id, md5(n::text), 'main', $1 FROM materials m, generate_series(1, 2000) AS n",
            NOW,
        )
        await database.execute("UPDATE pipelines SET last_counter = 2000")
        await database.execute("ANALYZE")
        yield database


def scanned(plan: Any) -> Iterator[str]:
    """Tables that a plan reads from end to end."""
    if isinstance(plan, dict):
        if plan.get("Node Type") == "Seq Scan":
            yield plan["Relation Name"]
        for value in plan.values():
            yield from scanned(value)
    elif isinstance(plan, list):
        for value in plan:
            yield from scanned(value)


async def test_hot_statements_do_not_read_whole_tables(db: Database) -> None:
    row = await db.fetchrow(
        "SELECT p.id AS project, l.id AS pipeline FROM projects p JOIN pipelines l ON l.project_id = p.id"
    )
    assert row is not None
    run: UUID = await db.fetchval("SELECT id FROM runs LIMIT 1")
    reading, listing, materials = queries.load("runs_read"), queries.load("projects"), queries.load("materials")
    stream, glance, going = queries.load("value_stream"), queries.load("dashboard"), queries.load("delete_project")
    reports = queries.load("status_reports")
    week = NOW - timedelta(days=7)
    for name, statement, arguments in (
        ("summaries", listing.summaries, (None, None, 0, week, [], [], 20, 0)),
        ("summaries of one", listing.summaries, ("p1", 1, 0, week, [], [], 0, 25)),
        ("pipelines_of_project", listing.pipelines_of_project, ("p1", week, [], [])),
        ("feed", reading.feed, (None, None, 50, 0)),
        ("feed_total", reading.feed_total, (None, None)),
        ("feed_of_pipelines", reading.feed_of_pipelines, (None, None, 50, 0, "p1", None, None)),
        ("detail", reading.detail, (run,)),
        ("jobs_of_agent", reading.jobs_of_agent, (uuid4(), 50)),
        ("queue_depth", reading.queue_depth, ()),
        ("materials_of_pipeline", materials.materials_of_pipeline, (row["pipeline"],)),
        ("value stream, sources", stream.sources, (row["project"],)),
        ("value stream, waits", stream.waits, (row["project"], week)),
        ("dashboard", glance.figures, (NOW - timedelta(hours=13), week)),
        ("delete, open runs", going.open_runs, ("p1",)),
        ("reports, notice", reports.notice, (NOW - timedelta(minutes=1), NOW)),
        ("reports, follow", reports.follow, (NOW,)),
        ("reports, take", reports.take, (NOW, NOW, 32)),
        ("newest_green_upstream", materials.newest_green_upstream, (row["project"], "a", "build")),
    ):
        # A sub-plan that never runs (the count of a filter that was not given) has no bearing on the time.
        explained = await db.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", *arguments)
        plan = json.loads(explained)[0]["Plan"]
        assert not LARGE & set(scanned(_executed(plan))), name


def _executed(plan: Any) -> Any:
    """The parts of a plan that ran."""
    if isinstance(plan, list):
        return [_executed(part) for part in plan if not (isinstance(part, dict) and part.get("Actual Loops") == 0)]
    if isinstance(plan, dict):
        return {key: _executed(value) for key, value in plan.items()}
    return plan


async def test_figures_are_computed_again_only_when_something_happened(db: Database) -> None:
    figures = Figures()
    first = await projects(db, figures, NOW, None, 0)
    assert {week.runs_considered for week in first.figures.values()} == {2 * 24 * 7}
    one = first.projects[0]["id"]
    await db.execute("UPDATE runs SET status = 'failed' WHERE counter = 5")
    again = await projects(db, figures, NOW, None, 0)
    assert again.figures[one] is first.figures[one]
    await db.execute("UPDATE runs SET finished_at = finished_at + interval '1 second' WHERE counter = 1")
    later = await projects(db, figures, NOW, None, 0)
    assert (later.figures[one].success_rate or 0) < 1.0
    await db.execute("UPDATE runs SET status = 'success' WHERE counter = 5")
    much_later = await projects(db, figures, NOW + timedelta(seconds=31), None, 0)
    assert much_later.figures[one].success_rate == 1.0
