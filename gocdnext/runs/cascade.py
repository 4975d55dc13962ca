"""The cascade: what follows when a job has ended (spec-execution 7). Closes stages, then the run.

Pure. Every transition that ends, cancels or skips a job goes through `settle`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from gocdnext.runs import governance
from gocdnext.runs.events import (
    Consequence,
    Effect,
    JobEnded,
    LookAgain,
    Outcome,
    PipelineFree,
    RunEnded,
    StartDownstream,
    StopJob,
    SupersedeOlder,
)
from gocdnext.runs.state import (
    AWAITING,
    CANCELED,
    FAILED,
    NOTIFICATIONS_STAGE,
    OPEN,
    QUEUED,
    SUCCESS,
    Job,
    Run,
    Stage,
)


def end_job(
    run: Run,
    job: Job,
    status: str,
    now: datetime,
    *,
    exit_code: int | None = None,
    error: str | None = None,
    outputs: Mapping[str, str] | None = None,
) -> Outcome:
    """The job has ended with `status`; everything that follows from it."""
    ended = replace(job, status=status, exit_code=exit_code, error=error, outputs=outputs or {}, finished_at=now)
    return settle(run.with_jobs(ended), now, (JobEnded(ended, job.agent_id),))


def settle(
    run: Run, now: datetime, effects: tuple[Effect, ...] = (), consequences: tuple[Consequence, ...] = ()
) -> Outcome:
    """Closes every stage that has nothing open, then the run when no stage is open.

    A stage is closed where it stands, also before it is reached (its gates were decided early); a stage without jobs
    only when it is reached (design 9, decision 5).
    """
    before = run
    while (stage := _closable(run)) is not None:
        run, more = _close_stage(run, stage, now)
        consequences += more
    if run.active_stage is None and run.status in OPEN:
        run = replace(run, status=worst(run.user_jobs), finished_at=now, queue_reason=None)
        effects += run_ended(run)
    elif run is not before or effects:
        effects += (LookAgain(run.id),)
    return Outcome(run, effects, consequences)


def canceled(job: Job, origin: str, now: datetime) -> Job:
    """The job, cancelled where it waited. The first origin stays."""
    return replace(job, status=CANCELED, finished_at=now, cancel_origin=job.cancel_origin or origin)


def stamped(job: Job, origin: str, now: datetime) -> Job:
    """The running job with its wish to stop. The first request wins: neither its time nor its origin is overwritten."""
    return replace(job, cancel_requested_at=job.cancel_requested_at or now, cancel_origin=job.cancel_origin or origin)


def stop_job(run: Run, job: Job, reason: str) -> tuple[Effect, ...]:
    """The frame that tells an agent to stop; none for a job without one."""
    return () if job.agent_id is None else (StopJob(run.id, job.id, job.agent_id, reason),)


def run_ended(run: Run) -> tuple[Effect, ...]:
    """What the end of a run lets go."""
    free = (PipelineFree(run.pipeline_id),) if run.definition.concurrency == "serial" else ()
    return (RunEnded(run.id, run.status), *free)


def worst(jobs: Iterable[Job]) -> str:
    """failed > canceled > success; a skipped job counts as nothing, and nothing at all is success."""
    seen = {job.status for job in jobs}
    return FAILED if FAILED in seen else CANCELED if CANCELED in seen else SUCCESS


def ready_gates(run: Run, ordinal: int) -> tuple[Job, ...]:
    """The waiting gates of the stage at `ordinal` whose needs lie in finished stages (spec-execution 9)."""
    stage = next((stage for stage in run.stages if stage.ordinal == ordinal), None)
    if stage is None:
        return ()
    finished = {job.name for job in run.jobs if run.stage(job.stage_id).status not in OPEN}
    return tuple(job for job in run.jobs_of(stage) if job.status == AWAITING and set(job.needs) <= finished)


def supersede(run: Run, gates: tuple[Job, ...]) -> tuple[Consequence, ...]:
    """The supersede check that these ready gates fire; nothing for pipelines without the mode."""
    if not gates or not run.definition.supersede:
        return ()
    environments = frozenset[str]().union(*(governance.governed_deploys(run.definition, gate.name) for gate in gates))
    if not environments and governance.has_deploys(run.definition):
        return ()  # the gate is shadowed: a later one stands in front of every deployment
    return (SupersedeOlder(environments),)


def _closable(run: Run) -> Stage | None:
    active = run.active_stage
    for stage in run.stages:
        if stage.status in OPEN and not run.is_open(stage) and (stage is active or run.jobs_of(stage)):
            return stage
    return None


def _close_stage(run: Run, stage: Stage, now: datetime) -> tuple[Run, tuple[Consequence, ...]]:
    status = worst(run.jobs_of(stage))
    run = run.with_stages(replace(stage, status=status, finished_at=now))
    if stage.name == NOTIFICATIONS_STAGE:
        return run, ()
    if status == SUCCESS:
        gates = ready_gates(run, stage.ordinal + 1) if run.status in OPEN else ()
        return run, (StartDownstream(stage.name), *supersede(run, gates))
    if status != FAILED:
        return run, ()
    return cancel_waiting(run, "dependency", now), ()


def cancel_waiting(run: Run, origin: str, now: datetime) -> Run:
    """Cancels queued stages, and jobs that are queued or wait for people; notifications are left alone."""
    hidden = {stage.id for stage in run.stages if stage.name == NOTIFICATIONS_STAGE}
    stages = [
        replace(stage, status=CANCELED, finished_at=now)
        for stage in run.stages
        if stage.status == QUEUED and stage.id not in hidden
    ]
    jobs = [
        canceled(job, origin, now)
        for job in run.jobs
        if job.status in (QUEUED, AWAITING) and job.stage_id not in hidden
    ]
    return run.with_jobs(*jobs).with_stages(*stages)
