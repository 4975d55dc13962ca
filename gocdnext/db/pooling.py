"""Finds out whether something between us and an external PostgreSQL takes our connection away between transactions.

PgBouncer in transaction or statement mode does. Notifications, session locks and prepared statements are lost there, one
time in so many: runs would stand still without a word. So such a place is refused at start. Session mode is as good as none.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from gocdnext.db import queries
from gocdnext.db.errors import DatabaseStartError
from gocdnext.db.pool import Connection, translated

ROUNDS = 3
CONNECT_TIMEOUT = 10.0
REFUSAL = (
    "GOCDNEXT_DATABASE_URL leads to a connection pooler in transaction or statement mode (PgBouncer: pool_mode), which gives "
    "our connections to others between transactions: notifications and locks get lost there. Use pool_mode=session for this "
    "database, or connect to PostgreSQL itself; gocdnext keeps a pool of its own (GOCDNEXT_DATABASE_POOL)."
)
_FORBIDDEN = "statement pooling mode"
"""In what PgBouncer says to a transaction there."""
_SQL = queries.load("cluster")


async def check(connect: dict[str, Any]) -> None:
    """Raises DatabaseStartError for a pooler that does not keep sessions. asyncio side, on connections of its own.

    Two connections that are open together never have one backend between them, and neither ever changes its backend,
    unless somebody hands backends out by the transaction. Raises DatabaseUnavailableError as `pool.Database` does.
    """
    with translated():
        # Without named statements: they are among the things that do not work there.
        first = await asyncpg.connect(**connect, statement_cache_size=0, timeout=CONNECT_TIMEOUT)
        try:
            second = await asyncpg.connect(**connect, statement_cache_size=0, timeout=CONNECT_TIMEOUT)
            try:
                await _compare(first, second)
            finally:
                await second.close()
        finally:
            await first.close()


async def _compare(first: Connection, second: Connection) -> None:
    for _ in range(ROUNDS):
        backends = [await _backend(first), await _backend(second), await _backend(first)]
        if backends[0] != backends[2] or backends[0] == backends[1]:
            raise DatabaseStartError(REFUSAL)


async def _backend(conn: Connection) -> int:
    """Which process of PostgreSQL serves a transaction on this connection."""
    try:
        # Two round trips, which are sure to meet the same backend only inside a transaction.
        async with conn.transaction():
            pid: int = await conn.fetchval(_SQL.backend)
    except asyncpg.PostgresError as error:
        if _FORBIDDEN in str(error):
            raise DatabaseStartError(REFUSAL) from error
        raise
    return pid
