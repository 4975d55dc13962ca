"""`tests` and `coverage`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

RUN = "c0de0000-0000-4000-8000-000000000001"
PIPELINE = "1f0e0000-0000-4000-8000-000000000001"
SUMMARY = {"job_run_id": RUN, "total": 3, "passed": 1, "failed": 1, "skipped": 1, "errored": 0, "duration_ms": 31}
CASES = [
    {
        "suite": "s",
        "classname": "C",
        "name": "half",
        "status": "failed",
        "duration_ms": 30,
        "failure_message": "1\x1b[31m",
    },
    {"suite": "s", "name": "zero", "status": "passed", "duration_ms": 1},
]


def test_failed_cases_are_shown_and_decide_the_exit_code(api: Any, call: Callable[..., Any]) -> None:
    api.routes[f"GET /api/v1/runs/{RUN}/tests"] = {"summaries": [SUMMARY], "cases": CASES}
    outcome = call("tests", RUN)
    assert outcome.code == 1
    first, second = outcome.out.splitlines()
    assert first == "3 total, 1 passed, 1 failed, 0 errored, 1 skipped"
    assert second.startswith("failed\ts/C/half\t30 ms\t1")
    assert "\x1b" not in outcome.out
    assert len(call("tests", RUN, "--all").out.splitlines()) == 3


def test_tests_as_json_are_the_api_s_own(api: Any, call: Callable[..., Any]) -> None:
    document = {"summaries": [{**SUMMARY, "failed": 0}], "cases": CASES[1:]}
    api.routes[f"GET /api/v1/runs/{RUN}/tests"] = document
    outcome = call("tests", RUN, "--json")
    assert (outcome.code, orjson.loads(outcome.out)) == (0, document)


def test_a_run_without_results(api: Any, call: Callable[..., Any]) -> None:
    api.routes[f"GET /api/v1/runs/{RUN}/tests"] = {"summaries": [], "cases": []}
    assert call("tests", RUN) == (0, "no test results\n", "")
    assert call("tests", RUN[:-1] + "2").code == 1


def test_coverage(api: Any, call: Callable[..., Any]) -> None:
    row = {"job_name": "unit", "matrix_key": "DB=pg", "format": "lcov", "lines_covered": 812, "lines_total": 1000}
    baseline = {"run_id": RUN, "lines_covered": 0, "lines_total": 0}
    api.routes[f"GET /api/v1/runs/{RUN}/coverage"] = {"coverage": [row, {**row, "baseline": baseline}]}
    assert call("coverage", RUN).out == (
        "unit DB=pg\t81.2%\t812/1000 lines\nunit DB=pg\t81.2%\t812/1000 lines\tbefore -\n"
    )
    points = [{**row, "run_id": RUN, "created_at": "2026-04-28T13:02:00Z"}]
    api.routes[f"GET /api/v1/pipelines/{PIPELINE}/coverage-trend"] = {"points": points}
    assert call("coverage", PIPELINE, "--trend", "--limit", "7").out.endswith(f"\tunit DB=pg\t81.2%\t{RUN}\n")
    assert api.seen[-1].query == {"limit": ["7"]}
    assert orjson.loads(call("coverage", PIPELINE, "--trend", "--json").out) == {"points": points}


@pytest.mark.parametrize("limit", ["0", "201"])
def test_limits_of_the_trend(api: Any, call: Callable[..., Any], limit: str) -> None:
    assert call("coverage", PIPELINE, "--trend", "--limit", limit).code == 2
