"""Runs in the database: load one under its lock, save only what a transition changed.

Asyncio code on one raw connection, always inside the caller's transaction. Decides nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Record

from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.pipeline.model import Pipeline
from gocdnext.runs.definitions import Definitions, decode_notifications
from gocdnext.runs.governance import concerns_others
from gocdnext.runs.state import OPEN, Artifact, Gate, Job, Revision, Run, Stage, Vote

_SQL = queries.load("runs")
REMEMBERED_JOBS = 50_000
"""Jobs of all remembered runs together; the least recently changed run goes first."""


class Remembered:
    """The newest runs of this process, so that a change of one reads nothing but its version.

    Only runs that are decided by their own rows: what others do to a lane or an environment is read each time.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[UUID, Run] = OrderedDict()
        self._jobs = 0

    def get(self, run_id: UUID) -> Run | None:
        """The run as this process left it; whether it still is so, its version tells."""
        return self._runs.get(run_id)

    def put(self, run: Run) -> None:
        """Takes a run as it was committed. One that is finished, or that concerns others, is not kept."""
        self.forget(run.id)
        if run.status not in OPEN or concerns_others(run.definition):
            return
        self._runs[run.id] = run
        self._jobs += len(run.jobs)
        while self._jobs > REMEMBERED_JOBS and len(self._runs) > 1:
            self.forget(next(iter(self._runs)))

    def forget(self, run_id: UUID) -> None:
        """Drops a run."""
        run = self._runs.pop(run_id, None)
        self._jobs -= 0 if run is None else len(run.jobs)


async def load_locked(
    conn: Connection,
    run_id: UUID,
    definitions: Definitions,
    lane_busy: Callable[[], None],
    remembered: Remembered | None = None,
) -> Run | None:
    """The run with its lock taken until the end of the transaction; None when there is no such run. `lane_busy` is told
    when another transaction had the lane."""
    # Two statements: what is read must be read after the lock was granted, not with the snapshot of the wait.
    locked = await conn.fetchrow(_SQL.lock_run, run_id)
    if locked is None:
        return None
    if locked["lane_busy"]:
        lane_busy()
    version = locked["version"]
    known = remembered.get(run_id) if remembered is not None else None
    if known is not None and known.version == version:
        return known
    return await load(conn, run_id, definitions)


async def load(conn: Connection, run_id: UUID, definitions: Definitions) -> Run | None:
    """The run as it is committed now, without a lock."""
    return (await load_many(conn, [run_id], definitions)).get(run_id)


async def load_many(conn: Connection, run_ids: Collection[UUID], definitions: Definitions) -> dict[UUID, Run]:
    """The runs as they are committed now, without a lock; one statement, and one for each definition not yet known."""
    found = {}
    for row in await conn.fetch(_SQL.load_runs, run_ids):
        found[row["id"]] = _run(row, await definitions.get(conn, row["definition_id"]))
    return found


def _run(row: Record, definition: Pipeline) -> Run:
    gates = row["gates"] or {}
    return Run(
        id=row["id"],
        version=row["version"],
        pipeline_id=row["pipeline_id"],
        project_id=row["project_id"],
        project_slug=row["project_slug"],
        counter=row["counter"],
        cause=row["cause"],
        cause_detail=row["cause_detail"],
        definition=definition,
        status=row["status"],
        queue_reason=row["queue_reason"],
        cancel_reason=row["cancel_reason"],
        superseded_by=row["superseded_by"],
        triggered_by=row["triggered_by"] or "",
        ref=row["ref"],
        notifications=decode_notifications(row["notifications"]),
        revisions=revisions_from_json(row["revisions"]),
        service_generation=row["service_generation"],
        serial_holder=row["serial_holder"],
        frozen=frozenset(row["frozen"]),
        passed_by_newer=frozenset(row["passed_by_newer"] or ()),
        artifacts=tuple(Artifact(*values) for values in row["artifacts"] or ()),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        stages=tuple(_stage(values) for values in row["stages"] or ()),
        jobs=tuple(_job(values, gates.get(values[0])) for values in row["jobs"] or ()),
    )


async def save(conn: Connection, before: Run, after: Run) -> bool:
    """Writes the difference between the run that was decided on and the run it became; its version is one higher then.

    False when the run has another version by now: nothing was written. Without gates that change it is one statement,
    whole by itself also outside a transaction.
    """
    stages = [stage for was, stage in zip(before.stages, after.stages, strict=True) if stage is not was]
    changed = [(was, job) for was, job in zip(before.jobs, after.jobs, strict=True) if job is not was]
    jobs = [job for _, job in changed]
    discarded = [job.id for was, job in changed if job.attempt != was.attempt]
    row = await conn.fetchrow(
        _SQL.save_run,
        after.id,
        *_run_columns(after),
        [stage.id for stage in stages],
        [stage.status for stage in stages],
        [stage.started_at for stage in stages],
        [stage.finished_at for stage in stages],
        [job.id for job in jobs],
        [job.status for job in jobs],
        [job.attempt for job in jobs],
        [job.losses for job in jobs],
        [job.retries for job in jobs],
        [job.rollback for job in jobs],
        [job.agent_id for job in jobs],
        [job.exit_code for job in jobs],
        [job.error for job in jobs],
        [dict(job.outputs) for job in jobs],
        [job.cancel_requested_at for job in jobs],
        [job.cancel_origin for job in jobs],
        [job.started_at for job in jobs],
        [job.finished_at for job in jobs],
        discarded,
        before.version,
    )
    if row is None or not row["runs"]:
        return False
    await _save_gates(conn, [(job.id, was.gate, job.gate) for was, job in changed])
    return True


async def _save_gates(conn: Connection, changes: list[tuple[UUID, Gate | None, Gate | None]]) -> None:
    changed = [
        (job_id, was, gate) for job_id, was, gate in changes if gate is not None and was is not None and was != gate
    ]
    if not changed:
        return
    cleared = [job_id for job_id, was, gate in changed if was.votes and not gate.votes]
    if cleared:
        await conn.execute(_SQL.clear_votes, cleared)
    fresh = [(job_id, vote) for job_id, was, gate in changed for vote in gate.votes[len(was.votes) :]]
    if fresh:
        await conn.execute(
            _SQL.add_votes,
            [job_id for job_id, _ in fresh],
            [vote.key for _, vote in fresh],
            [vote.label for _, vote in fresh],
            [vote.decision for _, vote in fresh],
            [vote.comment for _, vote in fresh],
            [vote.decided_at for _, vote in fresh],
        )
    await conn.execute(
        _SQL.save_gates,
        [job_id for job_id, _, _ in changed],
        [gate.awaiting_since for _, _, gate in changed],
        [gate.decision for _, _, gate in changed],
        [gate.decided_by for _, _, gate in changed],
        [gate.decided_at for _, _, gate in changed],
    )


def revisions_from_json(value: Mapping[str, Mapping[str, str]]) -> dict[str, Revision]:
    """The `revisions` column: material id -> revision and branch (contract-runs 1)."""
    return {key: Revision(entry["revision"], entry.get("branch", "")) for key, entry in value.items()}


def revisions_to_json(revisions: Mapping[str, Revision]) -> dict[str, dict[str, str]]:
    """The form `revisions_from_json` reads."""
    return {key: {"revision": entry.revision, "branch": entry.branch} for key, entry in revisions.items()}


def _run_columns(run: Run) -> tuple[Any, ...]:
    return (
        run.status,
        run.queue_reason,
        run.cancel_reason,
        run.superseded_by,
        run.service_generation,
        run.started_at,
        run.finished_at,
    )


def _stage(values: list[Any]) -> Stage:
    stage_id, name, ordinal, status, started_at, finished_at = values
    return Stage(UUID(stage_id), name, ordinal, status, _time(started_at), _time(finished_at))


def _job(values: list[Any], gate: list[Any] | None) -> Job:
    (
        job_id,
        stage_id,
        name,
        matrix_key,
        status,
        needs,
        attempt,
        losses,
        retries,
        timeout_seconds,
        retry_unsafe,
        rollback,
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
        losses=losses,
        retries=retries,
        timeout_seconds=timeout_seconds,
        retry_unsafe=retry_unsafe,
        rollback=rollback,
        gate=_gate(gate) if gate is not None else None,
        agent_id=UUID(agent_id) if agent_id else None,
        exit_code=exit_code,
        error=error,
        outputs=outputs,
        cancel_requested_at=_time(cancel_requested_at),
        cancel_origin=cancel_origin,
        started_at=_time(started_at),
        finished_at=_time(finished_at),
    )


def _gate(values: list[Any]) -> Gate:
    since, required, label, approvers, groups, description, decision, decided_by, decided_at, votes = values
    return Gate(
        awaiting_since=datetime.fromisoformat(since),
        required=required,
        quorum_label=label,
        approvers=tuple(approvers),
        approver_groups=tuple(groups),
        description=description,
        votes=tuple(_vote(*vote) for vote in votes or ()),
        decision=decision,
        decided_by=decided_by,
        decided_at=_time(decided_at),
    )


def _vote(key: str, label: str, decision: str, comment: str, decided_at: str) -> Vote:
    return Vote(key, label, decision, comment, datetime.fromisoformat(decided_at))


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
