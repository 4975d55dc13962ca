"""The caches of a project, for people: what there is, and away with one (contract-admin 6.4)."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog

from gocdnext.blobs.store import BlobStore
from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import NotFoundError

_SQL = queries.load("settings")
_PROJECTS = queries.load("projects")
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caches:
    """Some caches of a project, and what its complete ones take together, in bytes."""

    rows: list[asyncpg.Record]
    total_bytes: int


async def caches(db: Database, slug: str, limit: int | None, offset: int) -> Caches:
    """The caches of a project, the one used last first. Raises NotFoundError."""
    project_id = await _project(db, slug)
    rows = await db.fetch(_SQL.caches, project_id, limit, offset)
    return Caches(rows, await db.fetchval(_SQL.caches_bytes, project_id))


async def purge(db: Database, store: BlobStore, slug: str, cache_id: UUID) -> tuple[str, int]:
    """Removes a cache; its key and size. Raises NotFoundError, also for the cache of another project.

    The row goes first: nobody finds a cache without content. What stays of the blob when it cannot be removed now is the
    sweeper's, which has it buried.
    """
    row = await db.fetchrow(_SQL.purge_cache, await _project(db, slug), cache_id)
    if row is None:
        raise NotFoundError("cache not found")
    try:
        await store.delete([row["storage_key"]])
    except OSError as error:
        _LOG.warning("the blob of a purged cache is left to the sweeper", cache=str(cache_id), reason=str(error))
    return row["key"], row["size_bytes"]


async def _project(db: Database, slug: str) -> UUID:
    project_id: UUID | None = await db.fetchval(_PROJECTS.id_of_slug, slug)
    if project_id is None:
        raise NotFoundError("project not found")
    return project_id
