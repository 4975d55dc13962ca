"""Transitions that end a run or a job early: by a person, by a newer run, by a gate that waited too long. Pure.

Spec-execution 8 (expiry), 9 (supersede), 12 (cancel).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from gocdnext.runs import governance
from gocdnext.runs.cascade import cancel_waiting, canceled, run_ended, settle, stamped, stop_job
from gocdnext.runs.events import GateExpired, JobCancelRequested, Outcome, RunSuperseded, refuse
from gocdnext.runs.state import (
    AWAITING,
    CANCELED,
    EXPIRED,
    NOTIFICATIONS_STAGE,
    OPEN,
    QUEUED,
    RUNNING,
    Run,
)


def cancel_run(run: Run, now: datetime) -> Outcome:
    """The run ends now; what runs is told to stop and ends as canceled when it reports."""
    if run.status not in OPEN:
        return refuse(run, "conflict", "run already terminal")
    return _cancel(run, "user_run", "user canceled", now)


def cancel_job(run: Run, event: JobCancelRequested, now: datetime) -> Outcome:
    """A queued job ends, a running one is told to stop, each time it is asked for."""
    job = run.job(event.job_id)
    if job is None:
        return refuse(run, "not_found", "job_run not found")
    if job.status == RUNNING:
        return Outcome(run.with_jobs(stamped(job, "user_job", now)), stop_job(run, job, "user canceled job"))
    if job.status != QUEUED:
        return refuse(run, "conflict", "job_run already terminal")
    return settle(run.with_jobs(canceled(job, "user_job", now)), now)


def superseded(run: Run, event: RunSuperseded, now: datetime) -> Outcome:
    """A newer run takes the place of one that waits at a gate."""
    if run.status not in OPEN or not any(job.status == AWAITING for job in run.jobs):
        return Outcome(run)
    run = replace(run, superseded_by=event.by_run_id, cancel_reason=f"superseded by #{event.by_counter}")
    return _cancel(run, "supersede", f"superseded by #{event.by_counter}", now)


def expired(run: Run, event: GateExpired, now: datetime) -> Outcome:
    """A gate that nobody decided cancels its run; a frozen environment behind it stops the clock."""
    job = run.job(event.job_id)
    if job is None or job.gate is None or job.status != AWAITING or run.status not in OPEN:
        return Outcome(run)
    frozen = governance.governed_environments(run.definition, job.name) & run.frozen
    if job.gate.awaiting_since != event.awaiting_since or frozen:
        return Outcome(run)
    reason = f'approval timeout ({event.window}) on gate "{job.name}"'
    run = run.with_jobs(replace(job, gate=replace(job.gate, decision=EXPIRED, decided_at=now)))
    return _cancel(replace(run, cancel_reason=reason), "approval_expiry", reason, now)


def _cancel(run: Run, origin: str, stop_reason: str, now: datetime) -> Outcome:
    hidden = {stage.id for stage in run.stages if stage.name == NOTIFICATIONS_STAGE}
    running = [job for job in run.jobs if job.status == RUNNING and job.stage_id not in hidden]
    effects = tuple(effect for job in running for effect in stop_job(run, job, stop_reason))
    run = cancel_waiting(run.with_jobs(*(stamped(job, origin, now) for job in running)), origin, now)
    run = replace(run, status=CANCELED, finished_at=run.finished_at or now, queue_reason=None)
    return settle(run, now, effects + run_ended(run))
