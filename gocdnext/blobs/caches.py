"""The rows of caches: one complete content for each key of a project, and uploads that will take its place.

Asyncio code on a raw connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gocdnext.blobs.artifacts import Attempt
from gocdnext.db import queries
from gocdnext.db.pool import Connection

_SQL = queries.load("blobs")


@dataclass(frozen=True, slots=True)
class Content:
    """What a key has."""

    storage_key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Upload:
    """New content of a key, and the job that uploads it. `content` is None until the upload is complete."""

    id: UUID
    project_id: UUID
    key: str
    job_id: UUID
    ready: bool
    content: Content | None


async def find(conn: Connection, run_id: UUID, key: str, now: datetime) -> Content | None:
    """What the key has in the project of the run, which counts as a use of it; None for a miss."""
    row = await conn.fetchrow(_SQL.find_cache, run_id, key, now)
    return None if row is None else Content(row["storage_key"], row["size_bytes"], row["content_sha256"])


async def open_upload(
    conn: Connection, attempt: Attempt, key: str, now: datetime, new_id: Callable[[], UUID]
) -> tuple[UUID, str] | None:
    """Id and storage key of a new upload; None when the attempt does not run on that agent any more."""
    upload_id = new_id()
    storage_key = await conn.fetchval(
        _SQL.open_cache, attempt.job_id, attempt.run_id, attempt.agent_id, attempt.attempt, upload_id, key, now
    )
    return None if storage_key is None else (upload_id, storage_key)


async def upload(conn: Connection, upload_id: UUID) -> Upload | None:
    """An upload, or None when there is none of that id."""
    row = await conn.fetchrow(_SQL.cache_upload, upload_id)
    if row is None:
        return None
    content = None
    if row["size_bytes"] is not None:
        content = Content(row["storage_key"], row["size_bytes"], row["content_sha256"])
    ready = row["status"] == "ready"
    return Upload(upload_id, row["project_id"], row["key"], row["job_run_id"], ready, content)


async def make_ready(conn: Connection, made: Upload, now: datetime) -> None:
    """The upload is what its key has from now on; inside the caller's transaction."""
    await conn.execute(_SQL.lock_cache_key, made.project_id, made.key)
    await conn.execute(_SQL.drop_older_cache, made.project_id, made.key, made.id)
    await conn.execute(_SQL.make_cache_ready, made.id, now)
