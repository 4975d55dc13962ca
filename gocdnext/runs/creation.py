"""Making a run: its number, its snapshot, its stages and jobs, in one statement (spec-execution 2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson

from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.errors import InvalidError, NotFoundError, UnprocessableError
from gocdnext.pipeline.model import Pipeline
from gocdnext.runs.definitions import decode_notifications
from gocdnext.runs.expansion import expand, request_labels
from gocdnext.runs.state import Job, Revision, Run, Stage
from gocdnext.runs.store import revisions_to_json

_SQL = queries.load("runs")
MAX_REF_BYTES = 255
MAX_TRIGGERED_BY = 255
"""Characters of the name a caller may give."""
REMEMBERED_HEADS = 10_000
"""Pipelines whose newest run this process remembers."""


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
    definition_id: UUID | None = None
    """The snapshot that it is made from, where that is not the pipeline's own (contract-admin 8.7)."""


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """The run that was made; `counter` is its number within the pipeline."""

    run_id: UUID
    counter: int
    pipeline_id: UUID


@dataclass(frozen=True, slots=True)
class Head:
    """What a pipeline is now, as far as its next run takes it over. `counter` is the number of its newest run."""

    pipeline_id: UUID
    definition_id: UUID
    project_id: UUID
    project_slug: str
    notifications: str
    """The project's, as JSON."""
    counter: int


class Heads:
    """What pipelines were when this process last made a run of them: good enough to guess, `insert` tells if wrong."""

    def __init__(self) -> None:
        self._heads: OrderedDict[UUID, Head] = OrderedDict()

    def get(self, pipeline_id: UUID) -> Head | None:
        """The pipeline as it was left."""
        return self._heads.get(pipeline_id)

    def made(self, allotted: Allotted) -> None:
        """A run was made: its number is taken."""
        head = replace(allotted.head, counter=allotted.run.counter)
        self._heads[head.pipeline_id] = head
        self._heads.move_to_end(head.pipeline_id)
        if len(self._heads) > REMEMBERED_HEADS:
            self._heads.popitem(last=False)

    def forget(self, pipeline_id: UUID) -> None:
        """It was wrong."""
        self._heads.pop(pipeline_id, None)


@dataclass(frozen=True, slots=True)
class Allotted:
    """A run with its number that is not kept yet."""

    run: Run
    head: Head
    upstream_run_id: UUID | None
    definition_id: UUID | None


async def lock_head(conn: Connection, pipeline_id: UUID) -> Head:
    """The pipeline, with its next number held until the caller's transaction ends. Raises NotFoundError."""
    row = await conn.fetchrow(_SQL.lock_pipeline, pipeline_id)
    if row is None:
        raise NotFoundError("pipeline not found")
    return Head(
        pipeline_id,
        row["definition_id"],
        row["project_id"],
        row["project_slug"],
        row["notifications"],
        row["last_counter"],
    )


def allot(new: NewRun, head: Head, definition: Pipeline, *, now: datetime, new_id: Callable[[], UUID]) -> Allotted:
    """The run as it will be, with its number: `insert` keeps it. Raises UnprocessableError for one without stages."""
    if not definition.stages:
        raise UnprocessableError(
            f'pipeline "{definition.name}" has no stages: declare at least one under `stages:` and apply again'
        )
    own = definition.notifications
    notifications = decode_notifications(head.notifications) if own is None else own
    labels = request_labels(new.cause, new.cause_detail)
    stages, jobs = expand(definition, notifications, labels=labels, now=now, new_id=new_id)
    run = Run(
        id=new_id(),
        pipeline_id=head.pipeline_id,
        project_id=head.project_id,
        project_slug=head.project_slug,
        counter=head.counter + 1,
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
    return Allotted(run, head, new.upstream_run_id, new.definition_id)


async def insert(conn: Connection, allotted: Allotted, run: Run, *, tell: bool, guessed: bool = False) -> bool:
    """Keeps the run and takes its number, in one statement; False when the pipeline is not what `allotted` says.

    The run is as it was allotted, or as its first dispatch pass left it. `tell` = other servers should look at it.
    `guessed` = the pipeline is not locked by the caller: also its project is looked at.
    """
    head = allotted.head
    row = await conn.fetchrow(
        _SQL.insert_run,
        run.id,
        run.pipeline_id,
        head.definition_id,
        run.counter,
        run.cause,
        dict(run.cause_detail),
        revisions_to_json(run.revisions),
        run.ref,
        run.triggered_by,
        [service.name for service in run.definition.services],
        msgspec.json.encode(run.notifications).decode(),
        tell,
        allotted.upstream_run_id,
        run.created_at,
        run.status,
        run.queue_reason,
        run.started_at,
        run.finished_at,
        [stage.id for stage in run.stages],
        [stage.name for stage in run.stages],
        [stage.status for stage in run.stages],
        [stage.started_at for stage in run.stages],
        [stage.finished_at for stage in run.stages],
        *_job_columns(run.jobs, run.definition),
        *_gate_columns(run.jobs, run.definition),
        head.notifications if guessed else None,
        allotted.definition_id,
    )
    return row is not None


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
        [job.agent_id for job in jobs],
        [job.error for job in jobs],
        [job.started_at for job in jobs],
        [job.finished_at for job in jobs],
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
