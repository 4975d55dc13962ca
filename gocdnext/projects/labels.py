"""Labels of projects: pairs of key and value that lists are filtered and grouped by (contract-admin 6.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import InvalidError, NotFoundError

MOST = 50
MAX_BYTES = 100
"""Of a key, and of a value."""

_SQL = queries.load("settings")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


async def labels(db: Database, slug: str) -> list[tuple[str, str]]:
    """The labels of a project, by key and value. Raises NotFoundError."""
    rows = await db.fetch(_SQL.labels, slug)
    if not rows:
        raise NotFoundError("project not found")
    return [(row["key"], row["value"]) for row in rows if row["key"] is not None]


async def set_labels(db: Database, slug: str, wanted: Iterable[tuple[str, str]]) -> int:
    """Replaces the labels of a project; how many it has now. Raises InvalidError, NotFoundError."""
    pairs = list(wanted)
    if len(pairs) > MOST:
        raise InvalidError("too many labels")
    kept = sorted({_checked(key.strip(), value.strip()) for key, value in pairs})

    async def work(conn: Connection) -> None:
        project_id = await conn.fetchval(_SQL.hold_project, slug)
        if project_id is None:
            raise NotFoundError("project not found")
        await conn.execute(_SQL.set_labels, project_id, [key for key, _ in kept], [value for _, value in kept])

    await db.transaction(work)
    return len(kept)


def _checked(key: str, value: str) -> tuple[str, str]:
    if not key:
        raise InvalidError("label key is required")
    if ":" in key:
        raise InvalidError("label key must not contain ':'")
    if _CONTROL.search(key) or _CONTROL.search(value):
        raise InvalidError("label key/value must not contain line breaks or other control characters")
    if len(key.encode()) > MAX_BYTES or len(value.encode()) > MAX_BYTES:
        raise InvalidError("label key/value too long")
    return key, value
