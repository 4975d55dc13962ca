"""Brings the schema of a database to this program's, after a dump of what is there (embedded-postgres A7).

Trio code. A migration that fails leaves what was there before it, and the error says where the dump lies; a schema of a later
program is refused with the way back, where there is one. How a migration is applied is `migrate`'s.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from gocdnext import systemd
from gocdnext.db import dumps, migrate, queries
from gocdnext.db.dumps import Dumper
from gocdnext.db.errors import MigrationError, SchemaNewerError
from gocdnext.db.pool import Database

STARTING = "EXTEND_TIMEOUT_USEC=3600000000"
"""To systemd: a dump and a migration of a large database may take so long. It is what one migration may take."""


def migrations() -> Path:
    """The folder of the program's migrations."""
    return queries.sql_dir() / "migrations"


async def bring_up(
    db: Database, now: datetime, *, dumper: Dumper | None, state: Path | None = None, directory: Path | None = None
) -> list[str]:
    """Applies what is missing; the labels of that. `dumper` dumps what there is first, None where that is others' affair.

    `state` is where dumps of earlier upgrades may lie. Raises MigrationError, DatabaseStartError, DatabaseUnavailableError.
    """
    directory = directory or migrations()
    try:
        version, missing = await db.run(lambda conn: migrate.missing(conn, directory))
    except SchemaNewerError as error:
        raise SchemaNewerError(f"{error}{_earlier(state, len(migrate.read_migrations(directory)))}") from error
    if not missing:
        return []
    dump = None
    if version and dumper is not None:
        systemd.notify(STARTING)
        dump = await dumper.dump(db)
    try:
        return await db.run(lambda conn: migrate.migrate(conn, directory, now=now))
    except MigrationError as error:
        if not version:
            raise
        said = f"{error}\nThe gocdnext that was here before starts on this database as before."
        if dump is not None and dumper is not None:
            said += (
                f" A dump from before the upgrade lies in {dump}; in place of the database it would be put with: "
                + dumps.way_back(dumper.state, dump)
            )
        raise MigrationError(said) from error


def _earlier(state: Path | None, known: int) -> str:
    """How to go back to the newest dump that this program understands, if there is one."""
    fitting = [path for version, path in dumps.kept(state) if version <= known] if state is not None else []
    if state is None or not fitting:
        return ""
    return (
        f"\nA dump from before that upgrade is kept: what came after it would be lost, but this program starts on it after: "
        f"{dumps.way_back(state, fitting[0])}"
    )
