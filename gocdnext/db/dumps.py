"""Dumps of the embedded database beside the state, taken before a migration changes it (embedded-postgres A7).

    <state>/dumps/schema-0017.dump      what `pg_dump -Fc` wrote; `gocdnext restore` takes it

One for each schema version, of the last KEPT versions: a start that fails and is tried again never pushes out the dump of
an earlier upgrade. Nothing here migrates.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import trio

from gocdnext.db import clients, queries, statedir
from gocdnext.db.clients import Clients, ProgramError
from gocdnext.db.errors import StateDirectoryError, state_error
from gocdnext.db.pool import Connection, Database

FOLDER = "dumps"
KEPT = 2
"""Schema versions whose dumps are kept."""
SPARE_BYTES = 64 * 2**20
"""Bytes that a dump must leave free: PostgreSQL writes its log there while it migrates."""
COMPRESSED, PLAIN = "--compress=1", "--compress=0"
"""Levels of pg_dump: the cheapest that still makes log lines a fifth, and none."""
ROOMY = 4
"""So many times the rows have to be free for a dump that is not compressed: a server does not serve while it is dumped, and
compressing takes most of that time."""
_NAME = re.compile(r"schema-(\d{4})\.dump")
_SQL = queries.load("dumps")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class About:
    """What there is to dump."""

    schema_name: str
    version: int
    """Its newest migration."""
    major: int
    """Of the PostgreSQL that it is in."""
    database_bytes: int
    row_bytes: int
    encrypted: bool
    """Whether our own connection is."""


@dataclass(frozen=True, slots=True)
class Dumper:
    """Dumps one embedded database before it is migrated."""

    state: Path
    connect: dict[str, Any]
    pg_bindir: Path | None

    async def dump(self, db: Database) -> Path:
        """Dumps what there is; the file. Raises DatabaseStartError with nothing left behind, before anything is changed."""
        about = await db.run(about_of)
        folder = self.state / FOLDER
        target = folder / f"schema-{about.version:04}.dump"
        wanted = about.row_bytes // 2 + SPARE_BYTES
        free = statedir.free_bytes(self.state)
        _log.info(
            "dumping the database before its schema is changed",
            file=str(target),
            database_mib=about.database_bytes // 2**20,
            free_mib=free // 2**20,
        )
        if free < wanted:
            raise StateDirectoryError(
                f"there is no space left for a dump of the database before its schema is changed: {wanted // 2**20} MiB "
                f"are wanted in {folder}, {free // 2**20} MiB are free. Nothing was changed: the gocdnext that was here "
                "before starts as before. Free some space, or set GOCDNEXT_DUMP_BEFORE_MIGRATION=false when you have a "
                "backup of your own."
            )
        programs = await trio.to_thread.run_sync(clients.find_clients, about.major, self.pg_bindir)
        call = command(programs, about, compress=free < ROOMY * about.row_bytes + SPARE_BYTES)
        size = await self._write(call, folder, target)
        forget_old(self.state)
        _log.info("the database is dumped", file=str(target), mib=size // 2**20)
        return target

    async def _write(self, call: Sequence[str | Path], folder: Path, target: Path) -> int:
        """Whole and on the disk before it has its name."""
        making = target.with_name(f"{target.name}.tmp")
        try:
            descriptor = _begin(making)
            try:
                await clients.into_file(call, clients.environment(self.connect), descriptor)
                await trio.to_thread.run_sync(os.fsync, descriptor)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            await trio.to_thread.run_sync(_write_sum, making, sum_of(target))
            making.rename(target)
            statedir.sync_directory(folder)
        except OSError as error:
            raise state_error(target, error) from error
        except ProgramError as error:
            raise clients.no_room(target) if clients.says_full(error) else error from None
        finally:
            making.unlink(missing_ok=True)
        return size


def sum_of(dump: Path) -> Path:
    """Where the checksum of a dump lies, as sha256sum writes it: pg_restore does not notice every cut."""
    return dump.with_name(f"{dump.name}.sha256")


def digest(dump: Path) -> str:
    """SHA-256 of a file. Raises OSError."""
    with dump.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_sum(making: Path, target: Path) -> None:
    target.write_text(f"{digest(making)}  {target.name.removesuffix('.sha256')}\n", encoding="utf-8")


def _begin(making: Path) -> int:
    """An empty file that is readable for its owner only, opened for writing."""
    making.parent.mkdir(mode=0o700, exist_ok=True)
    making.unlink(missing_ok=True)
    return os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


async def about_of(conn: Connection) -> About:
    """What there is to dump. Asyncio code."""
    row = await conn.fetchrow(_SQL.about)
    assert row is not None
    return About(**row)


def command(programs: Clients, about: About, snapshot: str = "", *, compress: bool = True) -> list[str | Path]:
    """The call of pg_dump: our schema only, for whoever restores it; of a moment that another transaction holds, if said."""
    schema = about.schema_name.replace('"', '""')
    made: list[str | Path] = [
        programs.program("pg_dump"),
        "--format=custom",
        COMPRESSED if compress else PLAIN,
        "--no-owner",
        "--no-privileges",
        "--no-password",
        f'--schema="{schema}"',
    ]
    return [*made, f"--snapshot={snapshot}"] if snapshot else made


def kept(state: Path) -> list[tuple[int, Path]]:
    """The dumps that are there as (schema version, file), newest version first."""
    try:
        names = os.listdir(state / FOLDER)
    except OSError:
        return []
    found = [(int(match[1]), state / FOLDER / name) for name in names if (match := _NAME.fullmatch(name))]
    return sorted(found, reverse=True)


def forget_old(state: Path) -> None:
    """Removes all but the dumps of the last KEPT versions."""
    for _, path in kept(state)[KEPT:]:
        path.unlink(missing_ok=True)
        sum_of(path).unlink(missing_ok=True)


def way_back(state: Path, dump: Path, shown: Callable[[str], str] = shlex.quote) -> str:
    """The commands that put a dump in the place of the database."""
    pg, where, file = (shown(str(path)) for path in (state / "pg", state, dump))
    return f"mv {pg} {shown(str(state / 'pg.later'))} && gocdnext restore --state {where} {file}"
