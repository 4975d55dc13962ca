"""Whether the logs of a project are archived (contract-admin 6.1). Archiving itself is in the logs room."""

from __future__ import annotations

from datetime import datetime

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import NotFoundError

_SQL = queries.load("log_archives")


async def of_project(db: Database, slug: str) -> bool | None:
    """What the project says; None: as the server does. Raises NotFoundError."""
    row = await db.fetchrow(_SQL.of_project, slug)
    if row is None:
        raise NotFoundError("project not found")
    enabled: bool | None = row["log_archive_enabled"]
    return enabled


async def set_of_project(db: Database, slug: str, enabled: bool | None, now: datetime) -> None:
    """Sets what the project says. Raises NotFoundError."""
    if await db.fetchrow(_SQL.set_of_project, slug, enabled, now) is None:
        raise NotFoundError("project not found")
