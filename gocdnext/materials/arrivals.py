"""A revision arrives at materials: it is recorded, and starts the runs it has not started yet, in one transaction.

For whatever finds revisions: webhooks, polling, clocks. Which materials it concerns was decided before (spec-pipelines 9.2,
9.5); nothing here asks a repository. Asyncio code inside the caller's transaction: see `RunService.create_in`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.errors import NotFoundError, UnprocessableError
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.crowd import Create
from gocdnext.runs.state import Revision

_SQL = queries.load("arrivals")
MAX_MESSAGE = 10_000
"""Characters of a commit message that are kept."""
MAX_AUTHOR = 255

Kind = Literal["branch", "tag", "pull_request"]
Key = tuple[UUID, str, str, str]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One revision at one material, and the run it asks for."""

    pipeline_id: UUID
    material_id: UUID
    revision: str
    branch: str
    """The branch, the tag's name, or the head branch of a request."""
    cause: str
    triggered_by: str
    detail: Mapping[str, object]
    """The run's cause detail; the ids of material and modification are added."""
    ref: str = ""
    """The run's lane; empty: the branch (spec-pipelines 9.4)."""
    kind: Kind = "branch"
    author: str = ""
    message: str = ""
    committed_at: datetime | None = None
    definition_id: UUID | None = None
    """The definition that its run is made from, where that is not the pipeline's own."""

    @property
    def key(self) -> Key:
        """What makes it the same modification as another."""
        return self.material_id, self.revision, self.branch, self.kind


@dataclass(slots=True)
class Started:
    """What came of arrivals."""

    runs: list[tuple[Arrival, CreatedRun]] = field(default_factory=list)
    known: list[Arrival] = field(default_factory=list)
    """They have started their run before, or their material is gone."""
    refused: list[tuple[Arrival, str]] = field(default_factory=list)
    """No run can be made, and why. The next arrival of the same revision tries again."""


async def start_runs(
    conn: Connection, create: Create, arrivals: Sequence[Arrival], now: datetime, *, only_new: bool = False
) -> Started:
    """Records the revisions and makes the run of each that has none yet; with `only_new`, of each that was not known.

    Two callers with the same revision at the same time make one run. All callers should give arrivals in the order of
    project and pipeline name, as an apply locks them.
    """
    done = Started()
    distinct: dict[Key, Arrival] = {}
    for arrival in arrivals:
        distinct.setdefault(arrival.key, arrival)
    ordered = list(distinct.values())
    claimed = await _claim(conn, ordered, now, only_new) if ordered else {}
    links: list[tuple[int, UUID]] = []
    for arrival in ordered:
        modification = claimed.get(arrival.key)
        if modification is None:
            done.known.append(arrival)
            continue
        try:
            run = await create(_new_run(arrival, modification))
        except (NotFoundError, UnprocessableError) as error:
            done.refused.append((arrival, str(error)))
            continue
        links.append((modification, run.run_id))
        done.runs.append((arrival, run))
    if links:
        await conn.execute(_SQL.started, *map(list, zip(*links, strict=True)))
    return done


async def _claim(conn: Connection, arrivals: Sequence[Arrival], now: datetime, only_new: bool) -> dict[Key, int]:
    rows = await conn.fetch(
        _SQL.claim,
        [arrival.material_id for arrival in arrivals],
        [arrival.revision for arrival in arrivals],
        [arrival.branch for arrival in arrivals],
        [arrival.kind for arrival in arrivals],
        [arrival.author[:MAX_AUTHOR] for arrival in arrivals],
        [arrival.message[:MAX_MESSAGE] for arrival in arrivals],
        [arrival.committed_at for arrival in arrivals],
        now,
        only_new,
    )
    return {(row["material_id"], row["revision"], row["branch"], row["kind"]): row["id"] for row in rows}


def _new_run(arrival: Arrival, modification: int) -> NewRun:
    return NewRun(
        pipeline_id=arrival.pipeline_id,
        cause=arrival.cause,
        triggered_by=arrival.triggered_by,
        revisions={str(arrival.material_id): Revision(arrival.revision, arrival.branch)},
        cause_detail={
            **arrival.detail,
            "material_id": str(arrival.material_id),
            "modification_id": modification,
        },
        ref=arrival.ref or arrival.branch,
        definition_id=arrival.definition_id,
    )
