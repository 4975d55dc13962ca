"""Migrations only add, so that servers of the version before work on while a newer one has migrated already.

FIRST_RELEASED is the schema of the first version that anybody may be upgrading from. What one version stops using, a later one
removes, and says so in REMOVED.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from gocdnext.db import migrate, queries
from tests.postgres_fixture import run_asyncio

FIRST_RELEASED = 17
REMOVED: frozenset[tuple[str, str]] = frozenset()
"""Tables and columns that the version before did not use any more."""
ALL = migrate.read_migrations(queries.sql_dir() / "migrations")
COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable = 'YES' OR column_default IS NOT NULL OR is_identity = 'YES'
    OR is_generated = 'ALWAYS' AS may_be_left_out
FROM information_schema.columns WHERE table_schema = 'public' AND table_name !~ '^log_lines_[0-9]'
"""

Columns = dict[tuple[str, str], tuple[str, bool]]


async def columns(conn: asyncpg.Connection[asyncpg.Record]) -> Columns:
    return {(row[0], row[1]): (row[2], row[3]) for row in await conn.fetch(COLUMNS)}


def problems(before: Columns, after: Columns) -> list[str]:
    """What a server that knows `before` cannot do any more."""
    tables = {table for table, _ in before}
    found = [f"{table}.{column} is gone" for table, column in before.keys() - after.keys() - REMOVED]
    for (table, column), (kind, may_be_left_out) in after.items():
        known = before.get((table, column))
        if known is None:
            if table in tables and not may_be_left_out:
                found.append(f"{table}.{column} is new and must be said")
        elif known[0] != kind:
            found.append(f"{table}.{column} was {known[0]} and is {kind}")
        elif known[1] and not may_be_left_out:
            found.append(f"{table}.{column} must be said from now on")
    return sorted(found)


@pytest.mark.skipif(len(ALL) <= FIRST_RELEASED, reason="nothing has changed since the first released schema")
def test_every_migration_leaves_the_version_before_working(empty_database_url: str, tmp_path: Path) -> None:
    async def walk() -> None:
        conn = await asyncpg.connect(empty_database_url)
        try:
            before: Columns = {}
            for migration in ALL:
                shutil.copy(queries.sql_dir() / "migrations" / f"{migration.label}.sql", tmp_path)
                if migration.version < FIRST_RELEASED:
                    continue
                await migrate.migrate(conn, tmp_path, now=datetime.now(UTC))
                after = await columns(conn)
                if before:
                    assert problems(before, after) == [], migration.label
                before = after
        finally:
            await conn.close()

    run_asyncio(walk)


def test_what_is_no_addition() -> None:
    before: Columns = {("runs", "a"): ("text", True), ("runs", "b"): ("text", True), ("runs", "c"): ("text", True)}
    after: Columns = {
        ("runs", "a"): ("bigint", True),
        ("runs", "b"): ("text", False),
        ("runs", "d"): ("text", False),
        ("runs", "e"): ("text", True),
        ("new", "x"): ("text", False),
    }
    assert problems(before, after) == [
        "runs.a was text and is bigint",
        "runs.b must be said from now on",
        "runs.c is gone",
        "runs.d is new and must be said",
    ]
