"""What an assignment tells a notification about its run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gocdnext.runs.assignment import build
from tests.unit.runs.builders import make_run


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        (("success", "success"), "success"),
        (("failed", "canceled"), "failed"),
        (("canceled", "success"), "canceled"),
        (("success", "skipped"), "success"),
    ],
)
def test_a_notification_hears_how_the_run_ended(statuses: tuple[str, str], outcome: str) -> None:
    run = make_run("build: a, b", notify=("always",))
    *jobs, notification = run.jobs
    run = run.with_jobs(*(replace(job, status=status) for job, status in zip(jobs, statuses, strict=True)))
    env = build(run, notification).env
    assert (env["CI_PIPELINE"], env["CI_PIPELINE_STATUS"], env["CI_PIPELINE_NAME"]) == ("p", outcome, "p")
    assert "CI_PIPELINE_STATUS" not in build(run, jobs[0]).env
