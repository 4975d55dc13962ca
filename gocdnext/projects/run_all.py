"""Every pipeline of a project is started by hand (contract-runs 2.7), one after the other; one that cannot be stops none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from gocdnext.db import queries
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.errors import DomainError, NotFoundError
from gocdnext.materials.remotes import AskHeads, ask_heads
from gocdnext.materials.trigger import Runs, trigger
from gocdnext.runs.creation import check_triggered_by

_SQL = queries.load("projects")


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of one pipeline: a run, or why there is none."""

    pipeline_id: UUID
    run_id: UUID | None = None
    error: str = ""


async def run_all(
    db: Database, runs: Runs, slug: str, triggered_by: str, *, clock: Callable[[], datetime], ask: AskHeads = ask_heads
) -> list[Fired]:
    """Starts a run of each pipeline of the project `slug`, by name. Raises NotFoundError, InvalidError."""
    check_triggered_by(triggered_by)
    rows = await db.fetch(_SQL.pipeline_ids, slug)
    if not rows:
        raise NotFoundError("project not found")
    more = {"run_all": True, "fired_at": clock().astimezone(UTC).isoformat().replace("+00:00", "Z")}
    fired = []
    for row in rows:
        if row["id"] is None:
            break  # a project without pipelines
        try:
            made = await trigger(db, runs, row["id"], triggered_by, clock=clock, more=more, ask=ask)
        except (DomainError, DatabaseUnavailableError) as error:
            fired.append(Fired(row["id"], error=str(error)))
        else:
            fired.append(Fired(row["id"], made.run_id))
    return fired
