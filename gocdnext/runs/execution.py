"""Transitions of jobs on their way through agents: given, sent, reported, lost, out of time (spec-execution 6, 14). Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from gocdnext.runs.cascade import end_job, stop_job
from gocdnext.runs.events import (
    AgentLost,
    AssignmentLost,
    JobAssigned,
    JobEnded,
    JobReported,
    JobTimedOut,
    LookAgain,
    Outcome,
)
from gocdnext.runs.state import CANCELED, FAILED, MAX_LOSSES, QUEUED, RUNNING, SUCCESS, Job, Run


def assigned(run: Run, event: JobAssigned, now: datetime) -> Outcome:
    """queued -> running; its stage and its run with it."""
    job = run.job(event.job_id)
    if job is None or job.status != QUEUED:
        return Outcome(run)
    run = run.with_jobs(replace(job, status=RUNNING, agent_id=event.agent_id, started_at=now))
    stage = run.stage(job.stage_id)
    if stage.status == QUEUED:
        run = run.with_stages(replace(stage, status=RUNNING, started_at=stage.started_at or now))
    if run.status == QUEUED:
        run = replace(run, status=RUNNING, started_at=run.started_at or now, queue_reason=None)
    return Outcome(run)


def assignment_lost(run: Run, event: AssignmentLost, now: datetime) -> Outcome:
    """running -> queued with the same attempt, or canceled when a cancel came in between."""
    job = _attempt(run, event.job_id, event.agent_id, event.attempt)
    if job is None:
        return Outcome(run)
    if job.cancel_requested_at is not None:
        return end_job(run, job, CANCELED, now)
    run = run.with_jobs(replace(job, status=QUEUED, agent_id=None, started_at=None))
    return Outcome(run, (LookAgain(run.id),))


def undispatchable(run: Run, job_id: UUID, status: str, error: str | None, now: datetime) -> Outcome:
    """queued -> failed or skipped without ever running."""
    job = run.job(job_id)
    if job is None or job.status != QUEUED:
        return Outcome(run)
    return end_job(run, job, status, now, error=error)


def reported(run: Run, event: JobReported, now: datetime) -> Outcome:
    """running -> success or failed; canceled whatever is reported when a cancel was asked for before."""
    job = _attempt(run, event.job_id, event.agent_id, event.attempt)
    if job is None:
        return Outcome(run)
    if job.cancel_requested_at is not None:
        return end_job(run, job, CANCELED, now, exit_code=event.exit_code, error=event.error or None)
    if event.success:
        return end_job(run, job, SUCCESS, now, exit_code=event.exit_code, outputs=event.outputs)
    if _may_retry(run, job):
        return _again(run, replace(job, retries=job.retries + 1))
    return end_job(run, job, FAILED, now, exit_code=event.exit_code, error=event.error or None)


def agent_lost(run: Run, event: AgentLost, now: datetime) -> Outcome:
    """running -> queued with the next attempt, up to MAX_LOSSES times; deployments are never repeated."""
    job = _attempt(run, event.job_id, event.agent_id, event.attempt)
    if job is None:
        return Outcome(run)
    if job.cancel_requested_at is not None:
        return end_job(run, job, CANCELED, now)
    if not event.began:
        # A new attempt all the same: what is still under way for this one must not meet the next.
        return _again(run, job)
    if job.retry_unsafe:
        return end_job(run, job, FAILED, now, exit_code=-1, error=f"{event.reason} (not repeated: it deploys)")
    if job.losses >= MAX_LOSSES:
        error = f"{event.reason} (attempts={job.attempt + 1}, max={MAX_LOSSES})"
        return end_job(run, job, FAILED, now, exit_code=-1, error=error)
    return _again(run, replace(job, losses=job.losses + 1))


def timed_out(run: Run, event: JobTimedOut, now: datetime) -> Outcome:
    """running -> failed, because its agent did not end it in time (design 9, decision 11)."""
    job = run.job(event.job_id)
    if job is None or job.status != RUNNING or job.attempt != event.attempt:
        return Outcome(run)
    status = CANCELED if job.cancel_requested_at is not None else FAILED
    done = end_job(run, job, status, now, exit_code=-1, error=event.error)
    return replace(done, effects=(*stop_job(run, job, event.error), *done.effects))


def _attempt(run: Run, job_id: UUID, agent_id: UUID, attempt: int) -> Job | None:
    """The job if it runs exactly this attempt on exactly this agent."""
    job = run.job(job_id)
    if job is None or job.status != RUNNING or job.agent_id != agent_id or job.attempt != attempt:
        return None
    return job


def _may_retry(run: Run, job: Job) -> bool:
    definition = run.definition_of(job)
    return definition is not None and job.retries < definition.retry and not job.retry_unsafe


def _again(run: Run, job: Job) -> Outcome:
    again = replace(job, status=QUEUED, attempt=job.attempt + 1, agent_id=None, started_at=None)
    return Outcome(run.with_jobs(again), (JobEnded(job, job.agent_id), LookAgain(run.id)))
