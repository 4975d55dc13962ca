"""Whether a project lets pull requests from branches of its own repository bring their configuration (contract-admin 6.8)."""

from __future__ import annotations

from datetime import datetime

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import NotFoundError

_SQL = queries.load("configs")


async def trusted(db: Database, slug: str) -> bool:
    """Raises NotFoundError."""
    found: bool | None = await db.fetchval(_SQL.trust, slug)
    if found is None:
        raise NotFoundError("project not found")
    return found


async def set_trusted(db: Database, slug: str, enabled: bool, now: datetime) -> None:
    """Raises NotFoundError."""
    if await db.fetchval(_SQL.set_trust, slug, enabled, now) is None:
        raise NotFoundError("project not found")
