"""The only place where the state of a run changes: state + event + time -> new state + effects.

Pure. Every event names the state it expects (agent, attempt), so a late or repeated one changes nothing and gives the
very same run back. What must happen outside the run (stop a job, look at the run again) is returned as effects.
Rules: spec-execution 1, 5, 7, 12, 14 with the decisions of design 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never
from uuid import UUID

from gocdnext.runs.state import (
    AWAITING,
    CANCELED,
    FAILED,
    MAX_ATTEMPT,
    OPEN,
    OPEN_JOB,
    QUEUED,
    RUNNING,
    SKIPPED,
    SUCCESS,
    Job,
    Run,
    Stage,
)

# ---- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobAssigned:
    """A session was given the job."""

    job_id: UUID
    agent_id: UUID


@dataclass(frozen=True, slots=True)
class AssignmentLost:
    """The assignment of this attempt could not be sent: nothing ran, so the attempt is not used up."""

    job_id: UUID
    agent_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class JobRefused:
    """The job can never be dispatched as it is; `error` says why."""

    job_id: UUID
    error: str


@dataclass(frozen=True, slots=True)
class JobSkipped:
    """What the job needs was cancelled or skipped."""

    job_id: UUID


@dataclass(frozen=True, slots=True)
class JobReported:
    """An agent's result for the attempt it was given."""

    job_id: UUID
    agent_id: UUID
    attempt: int
    success: bool
    exit_code: int
    error: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The agent of this attempt is gone, came back without it, or says its machine was taken away."""

    job_id: UUID
    agent_id: UUID
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class RunCancelRequested:
    """Somebody cancels the whole run."""


@dataclass(frozen=True, slots=True)
class JobCancelRequested:
    """Somebody cancels one job."""

    job_id: UUID


@dataclass(frozen=True, slots=True)
class Reached:
    """The run is looked at: stages that have nothing to do are closed."""


Event = (
    JobAssigned
    | AssignmentLost
    | JobRefused
    | JobSkipped
    | JobReported
    | AgentLost
    | RunCancelRequested
    | JobCancelRequested
    | Reached
)

# ---- effects --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StopJob:
    """Tell the agent to stop this job."""

    run_id: UUID
    job_id: UUID
    agent_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """An attempt ended: its slot is free, its figures are known."""

    job: Job
    agent_id: UUID | None


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Something became possible in this run: dispatch should look at it."""

    run_id: UUID


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run is finished."""

    run_id: UUID
    status: str


@dataclass(frozen=True, slots=True)
class PipelineFree:
    """The slot of a serial pipeline is free again."""

    pipeline_id: UUID


Effect = StopJob | JobEnded | LookAgain | RunEnded | PipelineFree


@dataclass(frozen=True, slots=True)
class Outcome:
    """The run after the event. `run is` the one that went in when the event changed nothing."""

    run: Run
    effects: tuple[Effect, ...] = ()


# ---- the transition -------------------------------------------------------------------------------


def apply(run: Run, event: Event, now: datetime) -> Outcome:
    """What `event` makes of `run` at `now`. An event that does not fit the state gives `run` itself and no effects."""
    match event:
        case JobAssigned():
            return _assigned(run, event, now)
        case AssignmentLost():
            return _assignment_lost(run, event, now)
        case JobRefused(job_id, error):
            return _undispatchable(run, job_id, FAILED, error, now)
        case JobSkipped(job_id):
            return _undispatchable(run, job_id, SKIPPED, None, now)
        case JobReported():
            return _reported(run, event, now)
        case AgentLost():
            return _agent_lost(run, event, now)
        case RunCancelRequested():
            return _cancel_run(run, now)
        case JobCancelRequested(job_id):
            return _cancel_job(run, job_id, now)
        case Reached():
            return _settle(run, (), now)
    assert_never(event)


def _assigned(run: Run, event: JobAssigned, now: datetime) -> Outcome:
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


def _assignment_lost(run: Run, event: AssignmentLost, now: datetime) -> Outcome:
    job = _running(run, event.job_id, event.agent_id, event.attempt)
    if job is None:
        return Outcome(run)
    if job.cancel_requested_at is not None:
        return _end(run, job, CANCELED, now)
    run = run.with_jobs(replace(job, status=QUEUED, agent_id=None, started_at=None))
    return Outcome(run, (LookAgain(run.id),))


def _undispatchable(run: Run, job_id: UUID, status: str, error: str | None, now: datetime) -> Outcome:
    job = run.job(job_id)
    if job is None or job.status != QUEUED:
        return Outcome(run)
    return _end(run, job, status, now, error=error)


def _reported(run: Run, event: JobReported, now: datetime) -> Outcome:
    job = _running(run, event.job_id, event.agent_id, event.attempt)
    if job is None:
        return Outcome(run)
    canceled = job.cancel_requested_at is not None
    status = CANCELED if canceled else SUCCESS if event.success else FAILED
    outputs = event.outputs if status == SUCCESS else {}
    return _end(run, job, status, now, exit_code=event.exit_code, error=event.error or None, outputs=outputs)


def _agent_lost(run: Run, event: AgentLost, now: datetime) -> Outcome:
    job = _running(run, event.job_id, event.agent_id, event.attempt)
    if job is None:
        return Outcome(run)
    if job.cancel_requested_at is not None:
        return _end(run, job, CANCELED, now)
    if job.retry_unsafe:
        return _end(run, job, FAILED, now, exit_code=-1, error=f"{event.reason} (not repeated: it deploys)")
    if job.attempt >= MAX_ATTEMPT:
        error = f"{event.reason} (attempts={job.attempt + 1}, max={MAX_ATTEMPT})"
        return _end(run, job, FAILED, now, exit_code=-1, error=error)
    again = replace(job, status=QUEUED, attempt=job.attempt + 1, agent_id=None, started_at=None)
    return Outcome(run.with_jobs(again), (JobEnded(job, job.agent_id), LookAgain(run.id)))


def _cancel_run(run: Run, now: datetime) -> Outcome:
    if run.status not in OPEN:
        return Outcome(run)
    effects: list[Effect] = []
    jobs = []
    for job in run.jobs:
        if job.status in (QUEUED, AWAITING):
            jobs.append(_canceled(job, "user_run", now))
        elif job.status == RUNNING:
            jobs.append(_stamped(job, "user_run", now))
            effects.extend(_stop(run, job, "user canceled"))
    stages = [replace(s, status=CANCELED, finished_at=now) for s in run.stages if s.status == QUEUED]
    run = replace(
        run.with_jobs(*jobs).with_stages(*stages),
        status=CANCELED,
        finished_at=run.finished_at or now,
        queue_reason=None,
    )
    effects.extend(_ended(run))
    return _settle(run, tuple(effects), now)


def _cancel_job(run: Run, job_id: UUID, now: datetime) -> Outcome:
    job = run.job(job_id)
    if job is None or job.status not in (QUEUED, RUNNING):
        return Outcome(run)
    if job.status == RUNNING:
        return Outcome(run.with_jobs(_stamped(job, "user_job", now)), tuple(_stop(run, job, "user canceled job")))
    return _settle(run.with_jobs(_canceled(job, "user_job", now)), (), now)


# ---- the cascade (spec-execution 7) ---------------------------------------------------------------


def _end(
    run: Run,
    job: Job,
    status: str,
    now: datetime,
    *,
    exit_code: int | None = None,
    error: str | None = None,
    outputs: Mapping[str, str] | None = None,
) -> Outcome:
    ended = replace(job, status=status, exit_code=exit_code, error=error, outputs=outputs or {}, finished_at=now)
    return _settle(run.with_jobs(ended), (JobEnded(ended, job.agent_id),), now)


def _settle(run: Run, effects: tuple[Effect, ...], now: datetime) -> Outcome:
    """Closes every stage that is reached and has no open job, then the run when no stage is open."""
    before = run
    stage = run.active_stage
    while stage is not None and not any(job.status in OPEN_JOB for job in run.jobs_of(stage)):
        run = _close_stage(run, stage, now)
        stage = run.active_stage
    if run.active_stage is None and run.status in OPEN:
        status = _worst(job.status for job in run.jobs)
        run = replace(run, status=status, finished_at=now, queue_reason=None)
        effects = (*effects, *_ended(run))
    elif run is not before or effects:
        effects = (*effects, LookAgain(run.id))
    return Outcome(run, effects)


def _close_stage(run: Run, stage: Stage, now: datetime) -> Run:
    status = _worst(job.status for job in run.jobs_of(stage))
    run = run.with_stages(replace(stage, status=status, finished_at=now))
    if status != FAILED:
        return run
    stages = [replace(s, status=CANCELED, finished_at=now) for s in run.stages if s.status == QUEUED]
    jobs = [_canceled(job, "dependency", now) for job in run.jobs if job.status in (QUEUED, AWAITING)]
    return run.with_jobs(*jobs).with_stages(*stages)


def _worst(statuses: object) -> str:
    """failed > canceled > success; a skipped job counts as nothing, and nothing at all is success."""
    seen = set(statuses)  # type: ignore[call-overload]
    return FAILED if FAILED in seen else CANCELED if CANCELED in seen else SUCCESS


# ---- small pieces ---------------------------------------------------------------------------------


def _running(run: Run, job_id: UUID, agent_id: UUID, attempt: int) -> Job | None:
    job = run.job(job_id)
    if job is None or job.status != RUNNING or job.agent_id != agent_id or job.attempt != attempt:
        return None
    return job


def _canceled(job: Job, origin: str, now: datetime) -> Job:
    return replace(job, status=CANCELED, finished_at=now, cancel_origin=job.cancel_origin or origin)


def _stamped(job: Job, origin: str, now: datetime) -> Job:
    """The first request wins: neither its time nor its origin is overwritten."""
    return replace(
        job,
        cancel_requested_at=job.cancel_requested_at or now,
        cancel_origin=job.cancel_origin or origin,
    )


def _stop(run: Run, job: Job, reason: str) -> list[Effect]:
    return [] if job.agent_id is None else [StopJob(run.id, job.id, job.agent_id, reason)]


def _ended(run: Run) -> list[Effect]:
    free = [PipelineFree(run.pipeline_id)] if run.definition.concurrency == "serial" else []
    return [RunEnded(run.id, run.status), *free]
