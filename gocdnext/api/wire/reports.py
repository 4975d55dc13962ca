"""Test results, coverage and services of runs (contract-runs 3.7, 6). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Time, Wire


class TestSummary(Wire):
    job_run_id: Id
    total: int
    passed: int
    failed: int
    skipped: int
    errored: int
    duration_ms: int


class TestCase(Wire):
    id: Id
    job_run_id: Id
    suite: str
    name: str
    status: str
    duration_ms: int
    classname: str = ""
    failure_type: str = ""
    failure_message: str = ""
    failure_detail: str = ""


class RunTests(Wire):
    summaries: list[TestSummary]
    cases: list[TestCase]


class TestHistoryEntry(Wire):
    id: Id
    run_id: Id
    run_counter: int
    pipeline_name: str
    project_slug: str
    status: str
    duration_ms: int
    at: Time
    failure_message: str = ""


class TestHistory(Wire):
    entries: list[TestHistoryEntry]


class PackageCoverage(Wire):
    name: str
    lines_covered: int
    lines_total: int


class CoverageBaseline(Wire):
    run_id: Id
    lines_covered: int
    lines_total: int


class Coverage(Wire):
    job_run_id: Id
    job_name: str
    format: str
    lines_covered: int
    lines_total: int
    created_at: Time
    matrix_key: str = ""
    packages: list[PackageCoverage] = []
    baseline: CoverageBaseline | None = None


class RunCoverage(Wire):
    coverage: list[Coverage]


class CoveragePoint(Wire):
    run_id: Id
    job_name: str
    lines_covered: int
    lines_total: int
    created_at: Time
    matrix_key: str = ""


class CoverageTrend(Wire):
    points: list[CoveragePoint]


class ServiceRun(Wire):
    id: Id
    name: str
    image: str
    status: str
    pod_name: str = ""
    started_at: Time | None = None
    ready_at: Time | None = None
    stopped_at: Time | None = None
    error: str = ""


class Finding(Wire):
    scanner_job: str
    matrix_key: str
    tool: str
    rule_id: str
    severity: str
    message: str
    location_path: str
    location_line: int


class SecurityFindings(Wire):
    """All members are always there, zeros too (3.8)."""

    has_scans: bool
    delta_available: bool
    unbaselined_series: int
    critical: int
    high: int
    medium: int
    low: int
    open_total: int
    accepted: int
    new_in_change: list[Finding]
