"""How much is kept: of the newest runs, of a project, of all together (contract-admin 11.1, 3, 4 and 6).

Artifacts beyond that are not deleted here: their time ends, and they go as any other whose time is over. So what a run
that is open may fetch yet stays for as long as that. What is pinned, and what the very newest runs have delivered or may
fetch when they are repeated, is never beyond a quota.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from gocdnext.config import Quotas
from gocdnext.db import queries
from gocdnext.db.pool import Connection

_SQL = queries.load("blobs")
NO_QUOTAS = Quotas()


@dataclass(frozen=True, slots=True)
class Beyond:
    """What quotas asked for."""

    demoted: Counter[str]
    """Artifacts whose time has ended, in the words of contract-admin 7.4."""
    caches: Mapping[str, list[asyncpg.Record]]
    """Caches that went, in the same words."""


async def enforce(conn: Connection, quotas: Quotas, now: datetime) -> Beyond:
    """Does what the quotas ask for, inside the caller's transaction."""
    demoted: Counter[str] = Counter()
    caches: dict[str, list[asyncpg.Record]] = {}
    if quotas.keep_last:
        demoted["DemotedKeepLast"] = _count(await conn.execute(_SQL.expire_old_runs, now, quotas.keep_last))
    for name, limit, statement in (
        ("DemotedProjectCap", quotas.project, _SQL.expire_beyond_project_quota),
        ("DemotedGlobalCap", quotas.everything, _SQL.expire_beyond_global_quota),
    ):
        if limit:
            demoted[name] = _count(await conn.execute(statement, now, limit, quotas.keep_newest))
    for name, limit, statement in (
        ("CachesDeletedByQuota", quotas.project_caches, _SQL.drop_caches_beyond_project_quota),
        ("CachesDeletedByGlobalQuota", quotas.all_caches, _SQL.drop_caches_beyond_global_quota),
    ):
        if limit:
            caches[name] = await conn.fetch(statement, limit)
    return Beyond(demoted, caches)


def _count(tag: str) -> int:
    """Rows, from PostgreSQL's word for it: `UPDATE 3`."""
    return int(tag.rpartition(" ")[2])
