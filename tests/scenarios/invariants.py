"""What holds for a run whatever happened to it (design 10): for random events and after every step of a scenario."""

from __future__ import annotations

from gocdnext.runs.state import (
    AWAITING,
    CANCELED,
    FAILED,
    NOTIFICATIONS_STAGE,
    OPEN,
    RUNNING,
    SUCCESS,
    TERMINAL_JOB,
    Run,
)

MOST_LOSSES = 3
"""Attempts that may be lost with their agents before a job fails for good (spec-execution 14)."""


def check(run: Run, *, most_retries: int = 10) -> None:
    """Raises AssertionError for a run that must not exist."""
    for stage in run.stages:
        jobs = run.jobs_of(stage)
        if stage.status not in OPEN:
            assert all(job.status in TERMINAL_JOB for job in jobs), "a closed stage has no open job"
            assert stage.finished_at is not None
        if stage.status == SUCCESS:
            assert not any(job.status in (FAILED, CANCELED) for job in jobs)
    user_stages = [stage for stage in run.stages if stage.name != NOTIFICATIONS_STAGE]
    if run.status in (SUCCESS, FAILED):
        assert all(stage.status not in OPEN for stage in user_stages)
        assert (run.status == FAILED) == any(job.status == FAILED for job in run.user_jobs)
    for job in run.jobs:
        assert (job.status == RUNNING) == (job.agent_id is not None and job.finished_at is None)
        assert (job.status == AWAITING) <= (job.gate is not None)
        assert job.losses <= MOST_LOSSES
        assert job.retries <= most_retries
        assert job.attempt >= job.losses + job.retries
    assert (run.finished_at is None) == (run.status in OPEN)
