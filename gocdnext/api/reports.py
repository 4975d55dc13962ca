"""What agents reported of runs: test results, coverage, services (contract-runs 3.7, 6)."""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec
from quart import Blueprint, Response, request

from gocdnext.api import params, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, answer_list, utc, utc_or_none
from gocdnext.api.routing import route
from gocdnext.errors import InvalidError
from gocdnext.reports import coverage, testing
from gocdnext.reports import services as service_runs

blueprint = Blueprint("reports", __name__)

DEFAULT_HISTORY, MAX_HISTORY = 14, 100
DEFAULT_TREND, MAX_TREND = 50, 200


@route(blueprint, "GET", "/api/v1/runs/<run_id>/tests")
async def run_tests(run_id: str) -> Response:
    """The test results of a run (6.1); `limit` and `offset` are about its cases."""
    limit, offset = params.page()
    found = await testing.of_run(services().db, params.uuid(run_id), limit, offset)
    return answer(
        wire.RunTests(
            summaries=[wire.TestSummary(**_with_id(row, "job_run_id")) for row in found.summaries],
            cases=[wire.TestCase(**_with_id(row, "id", "job_run_id")) for row in found.cases],
        )
    )


@route(blueprint, "GET", "/api/v1/tests/history")
async def test_history() -> Response:
    """How one test case ended lately, in all projects (6.2)."""
    name = params.filter_of("name")
    if name is None:
        raise InvalidError("`name` query param is required")
    limit = params.whole("limit", DEFAULT_HISTORY, low=1, high=MAX_HISTORY, refusal="invalid `limit`")
    rows = await testing.history(services().db, name, request.args.get("classname", ""), limit)
    return answer(wire.TestHistory(entries=[_history_entry(row) for row in rows]))


@route(blueprint, "GET", "/api/v1/runs/<run_id>/coverage")
async def run_coverage(run_id: str) -> Response:
    """The coverage of a run's jobs, each with its baseline; empty for an unknown run (6.3)."""
    limit, offset = params.page()
    rows = await coverage.of_run(services().db, params.uuid(run_id), limit, offset)
    return answer(wire.RunCoverage(coverage=[_coverage(row) for row in rows]))


@route(blueprint, "GET", "/api/v1/pipelines/<pipeline_id>/coverage-trend")
async def coverage_trend(pipeline_id: str) -> Response:
    """The newest points of every job of a pipeline (6.3). A limit that is none is the default, never an error."""
    pipeline = params.uuid(pipeline_id)
    try:
        limit = params.whole("limit", DEFAULT_TREND, low=1, high=MAX_TREND, width=MAX_TREND)
    except InvalidError:
        limit = DEFAULT_TREND
    rows = await coverage.trend(services().db, pipeline, limit)
    return answer(wire.CoverageTrend(points=[wire.CoveragePoint(**_dated(row, "run_id")) for row in rows]))


@route(blueprint, "GET", "/api/v1/runs/<run_id>/services")
async def run_services(run_id: str) -> Response:
    """The services of a run by name; empty for an unknown run (3.7)."""
    run = params.uuid(run_id)
    asked = params.page_slice()
    rows = await service_runs.of_run(services().db, run)
    chosen = rows[asked]
    return answer_list([_service(row) for row in chosen], len(rows))


def _with_id(row: asyncpg.Record, *ids: str) -> dict[str, Any]:
    return {**row, **{name: str(row[name]) for name in ids}}


def _dated(row: asyncpg.Record, *ids: str) -> dict[str, Any]:
    return {**_with_id(row, *ids), "created_at": utc(row["created_at"])}


def _history_entry(row: asyncpg.Record) -> wire.TestHistoryEntry:
    fields = _with_id(row, "id", "run_id")
    del fields["created_at"]
    return wire.TestHistoryEntry(**fields, at=utc(row["created_at"]))


def _coverage(row: asyncpg.Record) -> wire.Coverage:
    baseline = None
    if row["baseline_run_id"] is not None:
        baseline = wire.CoverageBaseline(
            run_id=str(row["baseline_run_id"]),
            lines_covered=row["baseline_covered"],
            lines_total=row["baseline_total"],
        )
    return wire.Coverage(
        job_run_id=str(row["job_run_id"]),
        job_name=row["job_name"],
        matrix_key=row["matrix_key"],
        format=row["format"],
        lines_covered=row["lines_covered"],
        lines_total=row["lines_total"],
        packages=msgspec.convert(row["packages"], list[wire.PackageCoverage]),
        created_at=utc(row["created_at"]),
        baseline=baseline,
    )


def _service(row: asyncpg.Record) -> wire.ServiceRun:
    return wire.ServiceRun(
        id=str(row["id"]),
        name=row["name"],
        image=row["image"],
        pod_name=row["pod_name"],
        status=row["status"],
        started_at=utc_or_none(row["started_at"]),
        ready_at=utc_or_none(row["ready_at"]),
        stopped_at=utc_or_none(row["stopped_at"]),
        error=row["error"],
    )
