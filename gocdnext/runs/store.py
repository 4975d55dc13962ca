"""Runs in the database: load one under its lock, save only what a transition changed.

Asyncio code on one raw connection, always inside the caller's transaction. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.state import Job, Revision, Run, Stage

_SQL = queries.load("runs")


async def load_locked(conn: Connection, run_id: UUID, definitions: Definitions) -> Run | None:
    """The run with its lock taken until the end of the transaction; None when there is no such run."""
    # Two statements: what is read must be read after the lock was granted, not with the snapshot of the wait.
    if await conn.fetchval(_SQL.lock_run, run_id) is None:
        return None
    return await load(conn, run_id, definitions)


async def load(conn: Connection, run_id: UUID, definitions: Definitions) -> Run | None:
    """The run as it is committed now, without a lock."""
    row = await conn.fetchrow(_SQL.load_run, run_id)
    if row is None:
        return None
    return Run(
        id=row["id"],
        pipeline_id=row["pipeline_id"],
        project_id=row["project_id"],
        project_slug=row["project_slug"],
        counter=row["counter"],
        cause=row["cause"],
        cause_detail=row["cause_detail"],
        definition=await definitions.get(conn, row["definition_id"]),
        status=row["status"],
        queue_reason=row["queue_reason"],
        cancel_reason=row["cancel_reason"],
        revisions=revisions_from_json(row["revisions"]),
        service_generation=row["service_generation"],
        serial_holder=row["serial_holder"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        stages=tuple(_stage(values) for values in row["stages"] or ()),
        jobs=tuple(_job(values) for values in row["jobs"] or ()),
    )


async def save(conn: Connection, before: Run, after: Run) -> None:
    """Writes the difference between the run that was loaded and the run it became."""
    was_stage = {stage.id: stage for stage in before.stages}
    was_job = {job.id: job for job in before.jobs}
    stages = [stage for stage in after.stages if stage != was_stage[stage.id]]
    jobs = [job for job in after.jobs if job != was_job[job.id]]
    discarded = [job.id for job in jobs if job.attempt != was_job[job.id].attempt]
    await conn.execute(
        _SQL.save_run,
        after.id,
        _run_columns(before) != _run_columns(after),
        *_run_columns(after),
        [stage.id for stage in stages],
        [stage.status for stage in stages],
        [stage.started_at for stage in stages],
        [stage.finished_at for stage in stages],
        [job.id for job in jobs],
        [job.status for job in jobs],
        [job.attempt for job in jobs],
        [job.agent_id for job in jobs],
        [job.exit_code for job in jobs],
        [job.error for job in jobs],
        [dict(job.outputs) for job in jobs],
        [job.cancel_requested_at for job in jobs],
        [job.cancel_origin for job in jobs],
        [job.started_at for job in jobs],
        [job.finished_at for job in jobs],
        discarded,
    )


def revisions_from_json(value: Mapping[str, Mapping[str, str]]) -> dict[str, Revision]:
    """The `revisions` column: material id -> revision and branch (contract-runs 1)."""
    return {key: Revision(entry["revision"], entry.get("branch", "")) for key, entry in value.items()}


def revisions_to_json(revisions: Mapping[str, Revision]) -> dict[str, dict[str, str]]:
    """The form `revisions_from_json` reads."""
    return {key: {"revision": entry.revision, "branch": entry.branch} for key, entry in revisions.items()}


def _run_columns(run: Run) -> tuple[Any, ...]:
    return (run.status, run.queue_reason, run.cancel_reason, run.started_at, run.finished_at)


def _stage(values: list[Any]) -> Stage:
    stage_id, name, ordinal, status, started_at, finished_at = values
    return Stage(UUID(stage_id), name, ordinal, status, _time(started_at), _time(finished_at))


def _job(values: list[Any]) -> Job:
    (
        job_id,
        stage_id,
        name,
        matrix_key,
        status,
        needs,
        attempt,
        retry_unsafe,
        agent_id,
        exit_code,
        error,
        outputs,
        cancel_requested_at,
        cancel_origin,
        started_at,
        finished_at,
    ) = values
    return Job(
        id=UUID(job_id),
        stage_id=UUID(stage_id),
        name=name,
        matrix_key=matrix_key,
        status=status,
        needs=tuple(needs),
        attempt=attempt,
        retry_unsafe=retry_unsafe,
        agent_id=UUID(agent_id) if agent_id else None,
        exit_code=exit_code,
        error=error,
        outputs=outputs,
        cancel_requested_at=_time(cancel_requested_at),
        cancel_origin=cancel_origin,
        started_at=_time(started_at),
        finished_at=_time(finished_at),
    )


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
