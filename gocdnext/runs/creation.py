"""Making a run: its number, its snapshot, its stages and jobs, in one transaction (spec-execution 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import orjson

from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.errors import NotFoundError, UnprocessableError
from gocdnext.pipeline.model import Pipeline
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.state import Revision
from gocdnext.runs.store import revisions_to_json

_SQL = queries.load("runs")
MAX_REF_BYTES = 255


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


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """The run that was made; `counter` is its number within the pipeline."""

    run_id: UUID
    counter: int
    pipeline_id: UUID


@dataclass(frozen=True, slots=True)
class _Rows:
    stage_ids: list[UUID]
    job_ids: list[UUID]
    job_stage_ids: list[UUID]
    names: list[str]
    matrix_keys: list[str]
    images: list[str]
    needs: list[str]
    """JSON arrays, because arrays of arrays would all need one length."""
    retry_unsafe: list[bool]


async def create(
    conn: Connection,
    new: NewRun,
    definitions: Definitions,
    *,
    now: datetime,
    new_id: Callable[[], UUID],
) -> CreatedRun:
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
    run_id = new_id()
    rows = _expand(definition, new_id)
    await conn.fetchrow(
        _SQL.insert_run,
        run_id,
        new.pipeline_id,
        row["definition_id"],
        row["counter"],
        new.cause,
        dict(new.cause_detail),
        revisions_to_json(new.revisions),
        _cut(new.ref),
        new.triggered_by,
        [service.name for service in definition.services],
        now,
        rows.stage_ids,
        list(definition.stages),
        rows.job_ids,
        rows.job_stage_ids,
        rows.names,
        rows.matrix_keys,
        rows.images,
        rows.needs,
        rows.retry_unsafe,
    )
    return CreatedRun(run_id, row["counter"], new.pipeline_id)


def _expand(definition: Pipeline, new_id: Callable[[], UUID]) -> _Rows:
    """One row per job, or per instance of its matrix."""
    stage_ids = [new_id() for _ in definition.stages]
    by_name = dict(zip(definition.stages, stage_ids, strict=True))
    rows = _Rows(stage_ids, [], [], [], [], [], [], [])
    for job in definition.jobs:
        for key in job.instances or ("",):
            rows.job_ids.append(new_id())
            rows.job_stage_ids.append(by_name[job.stage])
            rows.names.append(job.name)
            rows.matrix_keys.append(key)
            rows.images.append(job.image)
            rows.needs.append(orjson.dumps(job.needs).decode())
            rows.retry_unsafe.append(job.deploy is not None or bool(job.environment))
    return rows


def _cut(ref: str) -> str:
    return ref.encode()[:MAX_REF_BYTES].decode(errors="ignore")
