"""The rows of artifacts: opened with a ticket, ready when a job's result names them, read by people.

A row belongs to the job's current attempt; an attempt that is repeated takes its rows with it (`runs/store`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog

from gocdnext.blobs.store import BlobStore, is_key
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database

KEPT = timedelta(days=30)
"""How long artifacts are kept whose job has no `expire_in`."""

_SQL = queries.load("blobs")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt of a job on the agent that runs it: what uploads belong to."""

    run_id: UUID
    job_id: UUID
    agent_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """An artifact as a result names it. An empty hash is not compared."""

    path: str
    storage_key: str
    size: int
    sha256: str


async def open_uploads(
    conn: Connection, attempt: Attempt, paths: Sequence[str], now: datetime, new_id: Callable[[], UUID]
) -> dict[str, str]:
    """Storage keys for the paths, asyncio side. Without those that were delivered already; empty when the attempt does
    not run on that agent any more. What is asked for twice gets the same key."""
    rows = await conn.fetch(
        _SQL.open_artifacts,
        attempt.job_id,
        attempt.run_id,
        attempt.agent_id,
        attempt.attempt,
        [new_id() for _ in paths],
        list(paths),
        now,
        int(KEPT.total_seconds()),
    )
    return {row["path"]: row["storage_key"] for row in rows}


async def confirm(db: Database, store: BlobStore, attempt: Attempt, claimed: Sequence[Claimed]) -> list[Claimed]:
    """Makes the artifacts of a result ready and returns those that are not what it says (protocol-agent 2.6, step 4).

    Good is what is in the store, has the size and hash that were seen when it came in, and was uploaded for this path
    of this attempt. What an agent wrote to the store by itself has the size that the store says, and the hash that the
    agent says: whoever fetches it compares. A repeated result finds the same. Raises DatabaseUnavailableError.
    """
    possible = [entry for entry in claimed if is_key(entry.storage_key) and "\0" not in entry.path + entry.sha256]
    try:
        stored = await store.sizes([entry.storage_key for entry in possible])
    except OSError as error:
        _log.error("the artifact store does not answer", error=str(error))
        return list(claimed)
    there = [entry for entry in possible if stored.get(entry.storage_key) == entry.size]
    rows = await db.fetch(
        _SQL.confirm_artifacts,
        attempt.job_id,
        attempt.run_id,
        attempt.agent_id,
        attempt.attempt,
        [entry.storage_key for entry in there],
        [entry.path for entry in there],
        [entry.size for entry in there],
        [entry.sha256 for entry in there],
        store.direct,
    )
    good = {row["storage_key"] for row in rows}
    return [entry for entry in claimed if entry.storage_key not in good]


async def of_run(db: Database, run_id: UUID) -> list[asyncpg.Record]:
    """The artifacts of a run for people, by job name and path; none for an unknown run."""
    return await db.fetch(_SQL.artifacts_of_run, run_id)


async def pin(db: Database, run_id: UUID, paths: Sequence[str], at: datetime | None) -> int:
    """Pins what is ready of a run, of these paths or (none) all of it; or releases it, with None. How many that were."""
    changed: int = await db.fetchval(_SQL.set_pins, run_id, [path.rstrip("/") for path in paths], at)
    return changed


def distinct(paths: Iterable[str]) -> list[str]:
    """The paths without those that differ in slashes at the end only; the first spelling stays."""
    found: dict[str, str] = {}
    for path in paths:
        found.setdefault(path.rstrip("/"), path)
    return list(found.values())
