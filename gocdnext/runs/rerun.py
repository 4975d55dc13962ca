"""The transition that runs a finished job again, and what it revives (spec-execution 13; design 9, decisions 6 and 9). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from gocdnext.runs import governance
from gocdnext.runs.events import (
    Consequence,
    GatesRearmed,
    JobRerunRequested,
    LookAgain,
    Outcome,
    refuse,
)
from gocdnext.runs.state import (
    AWAITING,
    CANCELED,
    FAILED,
    NOTIFICATIONS_STAGE,
    OPEN,
    OPEN_JOB,
    QUEUED,
    RUNNING,
    SKIPPED,
    Job,
    Run,
)


def rerun_job(run: Run, event: JobRerunRequested, now: datetime) -> Outcome:
    """Same row, next attempt; its failed dependents in the stage and the cancelled work of later stages come back."""
    job = run.job(event.job_id)
    if job is None:
        return refuse(run, "not_found", "job_run not found")
    if job.gate is not None:
        return refuse(run, "conflict", "an approval gate cannot be rerun — approve or reject it instead")
    if job.status in OPEN_JOB:
        return refuse(run, "conflict", "job is still active — cancel first")
    run = run.with_jobs(_afresh(job, rollback=event.rollback), *(_afresh(row) for row in _dependents(run, job)))
    stage = run.stage(job.stage_id)
    if stage.status not in OPEN:
        run = run.with_stages(replace(stage, status=RUNNING, finished_at=None))
    run, rearmed = _revive_later(run, stage.ordinal, now)
    return Outcome(_reopened(run), (LookAgain(run.id),), rearmed)


def _afresh(job: Job, *, rollback: bool = False) -> Job:
    """Queued as if it had never run. One that never started keeps its attempt: there is nothing to discard."""
    return replace(
        job,
        status=QUEUED,
        attempt=job.attempt + (job.started_at is not None),
        losses=0,
        retries=0,
        rollback=rollback,
        agent_id=None,
        exit_code=None,
        error=None,
        outputs={},
        cancel_requested_at=None,
        cancel_origin=None,
        started_at=None,
        finished_at=None,
    )


def _dependents(run: Run, job: Job) -> list[Job]:
    """Jobs of the same stage that failed or were skipped and need this one, directly or through each other."""
    stage = run.stage(job.stage_id)
    siblings = [row for row in run.jobs_of(stage) if row.gate is None]
    names = {job.name}
    while True:
        more = {row.name for row in siblings if row.name not in names and names & set(row.needs)}
        if not more:
            break
        names |= more
    names.discard(job.name)
    return [row for row in siblings if row.name in names and row.status in (FAILED, SKIPPED)]


def _revive_later(run: Run, ordinal: int, now: datetime) -> tuple[Run, tuple[Consequence, ...]]:
    """Later stages up to the first that failed by itself: what was cancelled, but not by a person, is open again."""
    rearmed: set[str] = set()
    for stage in run.stages:
        if stage.ordinal <= ordinal or stage.name == NOTIFICATIONS_STAGE:
            continue
        if stage.status == FAILED:
            break
        back = [
            _revived(job, now)
            for job in run.jobs_of(stage)
            if job.status == CANCELED and job.cancel_origin != "user_job"
        ]
        rearmed |= _environments_behind(run, back)
        run = run.with_jobs(*back)
        if stage.status == CANCELED and (back or not run.jobs_of(stage)):
            run = run.with_stages(replace(stage, status=QUEUED, started_at=None, finished_at=None))
    return run, (GatesRearmed(frozenset(rearmed)),) if rearmed else ()


def _revived(job: Job, now: datetime) -> Job:
    if job.gate is None:
        return _afresh(job)
    gate = replace(job.gate, awaiting_since=now, votes=(), decision=None, decided_by=None, decided_at=None)
    return replace(_afresh(job), status=AWAITING, gate=gate)


def _environments_behind(run: Run, jobs: Iterable[Job]) -> set[str]:
    found: set[str] = set()
    for job in jobs:
        if job.gate is not None:
            found |= governance.governed_deploys(run.definition, job.name)
    return found


def _reopened(run: Run) -> Run:
    """An open run stays as it is. A finished one runs again; in a serial pipeline it queues for the slot."""
    if run.status in OPEN:
        return run
    return replace(
        run,
        status=QUEUED if run.definition.concurrency == "serial" else RUNNING,
        finished_at=None,
        queue_reason=None,
        cancel_reason=None,
        superseded_by=None,
        service_generation=run.service_generation + 1,
    )
