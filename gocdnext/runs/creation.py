"""Making a run: its number, its snapshot, its stages and jobs, in one transaction (spec-execution 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson

from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.errors import InvalidError, NotFoundError, UnprocessableError
from gocdnext.pipeline.model import Pipeline
from gocdnext.runs.definitions import Definitions, decode_notifications
from gocdnext.runs.expansion import expand, request_labels
from gocdnext.runs.state import Job, Revision, Run, Stage
from gocdnext.runs.store import revisions_to_json

_SQL = queries.load("runs")
MAX_REF_BYTES = 255
MAX_TRIGGERED_BY = 255
"""Characters of the name a caller may give."""


def check_triggered_by(text: str) -> None:
    """Raises InvalidError for a name of the starter that cannot be stored."""
    if len(text) > MAX_TRIGGERED_BY or "\0" in text:
        raise InvalidError(f"triggered_by must be at most {MAX_TRIGGERED_BY} characters without NUL bytes")


@dataclass(frozen=True, slots=True)
class NewRun:
    """What starts a run: which pipeline, why, who, and which revisions it takes."""

    pipeline_id: UUID
    cause: str
    triggered_by: str
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    cause_detail: Mapping[str, object] = field(default_factory=dict)
    ref: str = ""
    """The run's lane (spec-pipelines 9.4); cut at 255 bytes."""
    upstream_run_id: UUID | None = None
    """The run whose stage starts this one; at most one run of a pipeline has it."""


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """The run that was made; `counter` is its number within the pipeline."""

    run_id: UUID
    counter: int
    pipeline_id: UUID


async def create(
    conn: Connection, new: NewRun, definitions: Definitions, *, now: datetime, new_id: Callable[[], UUID]
) -> Run:
    """Makes a queued run inside the caller's transaction. Raises NotFoundError for an unknown pipeline and
    UnprocessableError for one without stages; nothing is kept then, the number included."""
    row = await conn.fetchrow(_SQL.next_counter, new.pipeline_id)
    if row is None:
        raise NotFoundError("pipeline not found")
    definition = await definitions.get(conn, row["definition_id"])
    if not definition.stages:
        raise UnprocessableError(
            f'pipeline "{definition.name}" has no stages: declare at least one under `stages:` and apply again'
        )
    own = definition.notifications
    notifications = decode_notifications(row["notifications"]) if own is None else own
    labels = request_labels(new.cause, new.cause_detail)
    stages, jobs = expand(definition, notifications, labels=labels, now=now, new_id=new_id)
    run = Run(
        id=new_id(),
        pipeline_id=new.pipeline_id,
        project_id=row["project_id"],
        project_slug=row["project_slug"],
        counter=row["counter"],
        cause=new.cause,
        definition=definition,
        cause_detail=dict(new.cause_detail),
        triggered_by=new.triggered_by,
        ref=_cut(new.ref),
        notifications=notifications,
        revisions=dict(new.revisions),
        created_at=now,
        stages=stages,
        jobs=tuple(sorted(jobs, key=_order(stages))),
    )
    await conn.fetchrow(
        _SQL.insert_run,
        run.id,
        new.pipeline_id,
        row["definition_id"],
        run.counter,
        new.cause,
        dict(new.cause_detail),
        revisions_to_json(new.revisions),
        run.ref,
        new.triggered_by,
        [service.name for service in definition.services],
        msgspec.json.encode(notifications).decode(),
        new.upstream_run_id,
        now,
        [stage.id for stage in stages],
        [stage.name for stage in stages],
        *_job_columns(jobs, definition),
        *_gate_columns(jobs, definition),
    )
    return run


def _order(stages: tuple[Stage, ...]) -> Callable[[Job], tuple[int, str, str]]:
    """Jobs as they are read: by stage, name, matrix key."""
    ordinals = {stage.id: stage.ordinal for stage in stages}
    return lambda job: (ordinals[job.stage_id], job.name, job.matrix_key)


def _job_columns(jobs: tuple[Job, ...], definition: Pipeline) -> list[list[Any]]:
    images = {job.name: job.image for job in definition.jobs}
    return [
        [job.id for job in jobs],
        [job.stage_id for job in jobs],
        [job.name for job in jobs],
        [job.matrix_key for job in jobs],
        [images.get(job.name, "") for job in jobs],
        [job.status for job in jobs],
        # As JSON, because arrays of arrays would all need one length.
        [orjson.dumps(job.needs).decode() for job in jobs],
        [job.retry_unsafe for job in jobs],
        [job.timeout_seconds for job in jobs],
    ]


def _gate_columns(jobs: tuple[Job, ...], definition: Pipeline) -> list[list[Any]]:
    windows = {job.name: _window(job.approval.timeout) for job in definition.jobs if job.approval is not None}
    gates = [(job, job.gate) for job in jobs if job.gate is not None]
    return [
        [job.id for job, _ in gates],
        [windows[job.name] for job, _ in gates],
        [gate.required for _, gate in gates],
        [gate.quorum_label for _, gate in gates],
        [orjson.dumps(gate.approvers).decode() for _, gate in gates],
        [orjson.dumps(gate.approver_groups).decode() for _, gate in gates],
        [gate.description for _, gate in gates],
    ]


def _window(timeout: int | str) -> int | None:
    """The column `window_seconds`: -1 is the server's default, None is never."""
    return timeout if isinstance(timeout, int) else -1 if timeout == "inherit" else None


def _cut(ref: str) -> str:
    return ref.encode()[:MAX_REF_BYTES].decode(errors="ignore")
