"""How much is kept: of the newest runs, of a project, of all together (contract-admin 11.1, 3, 4 and 6).

Artifacts beyond that are not deleted here: their time ends, and they go as any other whose time is over. So what a run
that is open may fetch yet stays for as long as that.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from gocdnext.config import Quotas
from gocdnext.db import queries
from gocdnext.db.pool import Connection

_SQL = queries.load("blobs")
NO_QUOTAS = Quotas()


async def enforce(conn: Connection, quotas: Quotas, now: datetime) -> Counter[str]:
    """Does what the quotas ask for, inside the caller's transaction; counted in the words of contract-admin 7.4."""
    done: Counter[str] = Counter()
    for name, limit, statement in (
        ("DemotedKeepLast", quotas.keep_last, _SQL.expire_old_runs),
        ("DemotedProjectCap", quotas.project, _SQL.expire_beyond_project_quota),
        ("DemotedGlobalCap", quotas.everything, _SQL.expire_beyond_global_quota),
    ):
        if limit:
            tag = await conn.execute(statement, now, limit)
            done[name] = int(tag.rpartition(" ")[2])
    for name, limit, statement in (
        ("CachesDeletedByQuota", quotas.project_caches, _SQL.drop_caches_beyond_project_quota),
        ("CachesDeletedByGlobalQuota", quotas.all_caches, _SQL.drop_caches_beyond_global_quota),
    ):
        if limit:
            gone = await conn.fetch(statement, limit)
            done[name] = len(gone)
            done["CacheBytesFreed"] += sum(row["size_bytes"] or 0 for row in gone)
    return done
