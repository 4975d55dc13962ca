"""What agents reported of runs: test results, coverage, services (contract-runs 3.7, 6)."""

from __future__ import annotations

from typing import Annotated, Any

import asyncpg
import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from gocdnext.api import params, query, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, answer_list, utc, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.reports import coverage, testing
from gocdnext.reports import services as service_runs

blueprint = Blueprint("reports", __name__)

MAX_TREND = 200


class HistoryQuery(msgspec.Struct, kw_only=True):
    name: Annotated[str, Meta(min_length=1, description="The name of the test case.")]
    classname: Annotated[str, Meta(description="Its class, where it has one.")] = ""
    limit: Annotated[int, Meta(ge=1, le=100, extra={"whole": query.Whole(refusal="invalid `limit`")})] = 14


class TrendQuery(msgspec.Struct):
    limit: Annotated[int, Meta(ge=1, le=MAX_TREND, extra={"whole": query.Whole(MAX_TREND, lenient=True)})] = 50


@route(blueprint, "GET", "/api/v1/runs/<run_id>/tests", described=Description(asks=query.Paged, gives=wire.RunTests))
async def run_tests(run_id: str) -> Response:
    """The test results of a run (6.1); `limit` and `offset` are about its cases."""
    page = query.asked(query.Paged)
    found = await testing.of_run(services().db, params.uuid(run_id), page.limit, page.offset)
    return answer(
        wire.RunTests(
            summaries=[wire.TestSummary(**_with_id(row, "job_run_id")) for row in found.summaries],
            cases=[wire.TestCase(**_with_id(row, "id", "job_run_id")) for row in found.cases],
        )
    )


@route(blueprint, "GET", "/api/v1/tests/history", described=Description(asks=HistoryQuery, gives=wire.TestHistory))
async def test_history() -> Response:
    """How one test case ended lately, in all projects (6.2)."""
    asked = query.asked(HistoryQuery)
    rows = await testing.history(services().db, asked.name, asked.classname, asked.limit)
    return answer(wire.TestHistory(entries=[_history_entry(row) for row in rows]))


@route(
    blueprint, "GET", "/api/v1/runs/<run_id>/coverage", described=Description(asks=query.Paged, gives=wire.RunCoverage)
)
async def run_coverage(run_id: str) -> Response:
    """The coverage of a run's jobs, each with its baseline; empty for an unknown run (6.3)."""
    page = query.asked(query.Paged)
    rows = await coverage.of_run(services().db, params.uuid(run_id), page.limit, page.offset)
    return answer(wire.RunCoverage(coverage=[_coverage(row) for row in rows]))


@route(
    blueprint,
    "GET",
    "/api/v1/pipelines/<pipeline_id>/coverage-trend",
    described=Description(asks=TrendQuery, gives=wire.CoverageTrend),
)
async def coverage_trend(pipeline_id: str) -> Response:
    """The newest points of every job of a pipeline (6.3). A limit that is none is the default, never an error."""
    pipeline = params.uuid(pipeline_id)
    rows = await coverage.trend(services().db, pipeline, query.asked(TrendQuery).limit)
    return answer(wire.CoverageTrend(points=[wire.CoveragePoint(**_dated(row, "run_id")) for row in rows]))


@route(
    blueprint,
    "GET",
    "/api/v1/runs/<run_id>/security-findings",
    described=Description(gives=wire.SecurityFindings),
)
async def run_security_findings(run_id: str) -> Response:
    """What security scans found (3.8). No report of a scan is taken in, so every run is one without scans."""
    params.uuid(run_id)
    return answer(
        wire.SecurityFindings(
            has_scans=False,
            delta_available=False,
            unbaselined_series=0,
            critical=0,
            high=0,
            medium=0,
            low=0,
            open_total=0,
            accepted=0,
            new_in_change=[],
        )
    )


@route(
    blueprint,
    "GET",
    "/api/v1/runs/<run_id>/services",
    described=Description(asks=query.Paged, gives=list[wire.ServiceRun]),
)
async def run_services(run_id: str) -> Response:
    """The services of a run by name; empty for an unknown run (3.7)."""
    run = params.uuid(run_id)
    page = query.asked(query.Paged)
    rows = await service_runs.of_run(services().db, run)
    chosen = rows[page.part]
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
