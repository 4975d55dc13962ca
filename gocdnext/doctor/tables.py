"""What grows and what is slow in the database: sizes, dead rows, open transactions, locks, statements."""

from __future__ import annotations

from typing import Any

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.doctor.findings import Finding, fail, ok, skipped, warn
from gocdnext.doctor.ground import Ground

MIB = 1024 * 1024
SHOWN = 5
DEAD_ROWS, DEAD_PART = 50_000, 0.5
"""Dead rows from which a table is bloated, and how many of them for each live one."""
OLD_TRANSACTION = 600
"""Seconds; no transaction of ours takes so long, a backup of a large database may."""
LONG_WAIT = 30
"""Seconds."""
SLOW_MEAN = 250.0
"""Milliseconds that a statement may take on average."""
STATEMENT_SHOWN = 120
OLD_AGE, DANGEROUS_AGE = 500_000_000, 1_500_000_000
"""Transactions: autovacuum begins to worry at 200 million; at 2,100 million PostgreSQL stops."""
_SQL = queries.load("doctor")


async def sizes(db: Database, limit: int = SHOWN) -> list[dict[str, Any]]:
    """The largest tables with bytes and rows."""
    return [dict(row) for row in await db.fetch(_SQL.largest_tables, limit)]


async def size(db: Database, ground: Ground) -> Finding:
    """The size of the database and of its largest tables."""
    whole = await db.fetchval(_SQL.database_size)
    largest = ", ".join(f"{row['name']} {row['bytes'] / MIB:.0f}" for row in await sizes(db))
    return ok("database size", f"{whole / MIB:.0f} MiB; of these {largest or 'no tables'}")


async def bloat(db: Database, ground: Ground) -> list[Finding]:
    """Tables that are mostly dead rows, and indexes that do not work."""
    found = []
    for row in await db.fetch(_SQL.bloated_tables, DEAD_ROWS, DEAD_PART):
        said = f"{row['name']}: {row['dead']} dead rows beside {row['live']} live ones"
        advice = (
            f"VACUUM (ANALYZE) {row['name']}; if it stays so, an open transaction or autovacuum's settings are why."
        )
        found.append(warn("bloat", said, advice))
    invalid = [row["name"] for row in await db.fetch(_SQL.invalid_indexes)]
    found += [warn("bloat", f"the index {name} is not valid", f"REINDEX INDEX CONCURRENTLY {name}") for name in invalid]
    return found or [ok("bloat", "no table is mostly dead rows, every index works")]


async def transactions(db: Database, ground: Ground) -> list[Finding]:
    """Who holds up the others."""
    found = []
    for row in await db.fetch(_SQL.old_transactions, OLD_TRANSACTION):
        said = f"{row['who']} (process {row['pid']}, {row['state']}) has had one open for {row['seconds']} s"
        advice = f"Ends what it holds up: SELECT pg_terminate_backend({row['pid']})"
        found.append(warn("transactions", said, advice))
    for row in await db.fetch(_SQL.waiting, LONG_WAIT):
        said = f"process {row['pid']} has waited {row['seconds']} s for a lock of process {row['blocker']}"
        advice = f"See what that does (pg_stat_activity); if it hangs: SELECT pg_terminate_backend({row['blocker']})"
        found.append(warn("transactions", said, advice))
    age = await db.fetchval(_SQL.transaction_age)
    if age > OLD_AGE:
        said, advice = f"the oldest is {age} transactions old", "VACUUM (FREEZE, ANALYZE) as the database's owner."
        found.append((fail if age > DANGEROUS_AGE else warn)("transactions", said, advice))
    return found or [ok("transactions", "none is old, nobody waits for a lock")]


async def statements(db: Database, ground: Ground) -> list[Finding]:
    """Statements that take long on average, where the database counts them."""
    name = "slow statements"
    if not await db.fetchval(_SQL.has_statements):
        return [skipped(name, "not counted here (pg_stat_statements is not installed)")]
    slow = await db.fetch(_SQL.slow_statements, SLOW_MEAN, SHOWN, STATEMENT_SHOWN)
    advice = "ANALYZE the database; if it stays slow, send a bug report with `gocdnext doctor bundle`."
    found = [warn(name, f"{row['mean']:.0f} ms, {row['calls']} times: {row['statement']}", advice) for row in slow]
    return found or [ok(name, f"none takes more than {SLOW_MEAN:g} ms on average")]
