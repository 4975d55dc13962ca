"""The migrations runner: `sql/migrations/NNNN_name.sql`, forward only, one transaction each (design section 4).

Asyncio code on one raw asyncpg connection; the caller crosses from trio once. Every refusal comes before the
first write: a later program's schema, a file that changed after it was applied, a gap. The runner knows no table
but its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from gocdnext.db import queries
from gocdnext.db.errors import MigrationError, SchemaNewerError

sql = queries.load("migrate")

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

LOCK_TIMEOUT = 300.0
"""Seconds to wait for another server that is migrating the same database."""
STEP_TIMEOUT = 3600.0
"""Seconds that one migration may take."""
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    checksum: str
    """SHA-256 of the file, in hex."""
    statements: str

    @property
    def label(self) -> str:
        """The file's name without its ending, for example `0001_initial`."""
        return f"{self.version:04}_{self.name}"


def read_migrations(directory: Path) -> list[Migration]:
    """The migrations in `directory` in order. Raises MigrationError for a wrong name, a gap or two of one number."""
    found: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not a migration's name: NNNN_name.sql in small letters is")
        content = path.read_bytes()
        found.append(Migration(int(match[1]), match[2], hashlib.sha256(content).hexdigest(), content.decode()))
    for expected, migration in enumerate(found, start=1):
        if migration.version != expected:
            raise MigrationError(f"migration {expected:04} is missing or {migration.label} has a number twice")
    return found


async def migrate(conn: Connection, directory: Path, *, now: datetime) -> list[str]:
    """Brings the schema to the version of the files; returns the labels of what was applied now, in order.

    Several servers may call it at once on one database: one applies, the others wait and find nothing to do.
    Raises MigrationError (SchemaNewerError for a schema of a later program) with nothing written by the step that
    failed; connection errors pass through.
    """
    known = read_migrations(directory)
    try:
        await conn.execute(sql.lock, timeout=LOCK_TIMEOUT)
    except TimeoutError as error:
        raise MigrationError(
            f"another server has been migrating this database for {LOCK_TIMEOUT:.0f} s. Look at its log; start again "
            "when it is done."
        ) from error
    try:
        exists = await conn.fetchval(sql.table_exists)
        applied = await conn.fetch(sql.applied) if exists else []
        check(known, [(row["version"], row["name"], row["checksum"]) for row in applied])
        pending = known[len(applied) :]
        for migration in pending:
            await _apply(conn, migration, now)
        return [migration.label for migration in pending]
    finally:
        await _unlock(conn)


async def missing(conn: Connection, directory: Path) -> tuple[int, list[str]]:
    """The newest version that was applied, 0 for none, and the labels of what `migrate` would apply now; writes nothing.

    Raises MigrationError as `migrate` does.
    """
    known = read_migrations(directory)
    applied = await conn.fetch(sql.applied) if await conn.fetchval(sql.table_exists) else []
    check(known, [(row["version"], row["name"], row["checksum"]) for row in applied])
    return len(applied), [migration.label for migration in known[len(applied) :]]


def check(known: Sequence[Migration], applied: Sequence[tuple[int, str, str]]) -> None:
    """Compares the files with what was applied, given as (version, name, checksum). Raises MigrationError."""
    if applied and applied[-1][0] > len(known):
        raise SchemaNewerError(
            f"the database has schema version {applied[-1][0]} and this program knows versions up to {len(known)}: "
            "a later gocdnext has used it, and a database never goes back by itself. Nothing was changed. Start that later "
            "version, or restore an older backup."
        )
    for expected, (version, name, checksum) in enumerate(applied, start=1):
        if version != expected:
            raise MigrationError(
                f"the database says that migration {version:04}_{name} was applied and {expected:04} was not. "
                "Nothing was changed. Restore a backup; the table schema_migrations was changed by hand."
            )
        migration = known[version - 1]
        if (migration.name, migration.checksum) != (name, checksum):
            raise MigrationError(
                f"{migration.label}.sql is not the file that was applied to this database as {version:04}_{name}. "
                "Nothing was changed. Applied migrations never change: use the gocdnext that made this database, or "
                "put the change into a new migration."
            )


async def _apply(conn: Connection, migration: Migration, now: datetime) -> None:
    with _naming(migration):
        async with conn.transaction():
            await conn.execute(sql.create_table)
            await conn.execute(migration.statements, timeout=STEP_TIMEOUT)
            if not conn.is_in_transaction():
                raise MigrationError(
                    f"{migration.label}.sql ends its own transaction; BEGIN and COMMIT do not belong there"
                )
            arguments: tuple[Any, ...] = (migration.version, migration.name, migration.checksum, now)
            await conn.execute(sql.record, *arguments)


@contextlib.contextmanager
def _naming(migration: Migration) -> Iterator[None]:
    """Names the file in the server's complaints about its statements."""
    try:
        yield
    except asyncpg.PostgresConnectionError:
        raise
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{migration.label}.sql failed and nothing of it was kept: {error}") from error
    except TimeoutError as error:
        raise MigrationError(f"{migration.label}.sql took longer than {STEP_TIMEOUT:.0f} s and was undone") from error


async def _unlock(conn: Connection) -> None:
    """Frees the lock; a connection that is gone has freed it already."""
    with contextlib.suppress(asyncpg.InterfaceError, asyncpg.PostgresConnectionError, OSError):
        if not conn.is_closed():
            await asyncio.shield(conn.execute(sql.unlock, timeout=10))
