"""Restores a backup into an empty state: an embedded database and its directory, or an external database.

Everything that can be refused is refused before the first byte is written: the archive is read to its end first. What fails
after that leaves the place as it was, and a process that is killed leaves a mark that keeps servers away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import trio
import trio_asyncio

from gocdnext.backup import archive, checking, sealing, taking
from gocdnext.backup.archive import BLOBS, DATABASE, Opened
from gocdnext.backup.checking import Checked
from gocdnext.backup.errors import ArchiveError, DifferentError, NotEmptyError, PassphraseError
from gocdnext.blobs.store import BlobStore
from gocdnext.db import clients, cluster, dumps, migrate, queries, reach, schema, statedir
from gocdnext.db.errors import MigrationError, StateDirectoryError
from gocdnext.db.pool import Connection, Database
from gocdnext.db.reach import Reached
from gocdnext.db.statedir import StateDir

_SQL = queries.load("backup")
_NOT_OURS = frozenset({"lost+found"})
"""What an empty file system has in it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to restore to."""

    database_url: str | None
    state: Path
    pg_bindir: Path | None
    open_store: Callable[[], BlobStore]
    """Opens where blobs go; called when the directory is ours."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored."""

    schema: int
    rows: int
    blobs: int
    keys: tuple[str, ...]
    """Names of the keys."""
    sealed_with: tuple[str, ...]
    """Ids of the keys that the database needs."""


async def restore(
    path: Path, place: Place, *, passphrase: Callable[[], str | None] | None, told: Callable[[str], None]
) -> Restored:
    """`passphrase` is asked when there are keys in the archive; None leaves them out.

    Raises ArchiveError, PassphraseError, NotEmptyError, DifferentError, DatabaseStartError, DatabaseUnavailableError.
    """
    if checking.is_bare_dump(path):
        return await _restore_dump(path, place, told)
    checked = checking.check(path, told)
    keys = {} if passphrase is None or checked.keys is None else opened_keys(checked, passphrase())
    async with _opened(place, checked.header.database_bytes, keys) as found:
        await load(found, checked.path, checked, place.pg_bindir, told)
        blobs = await _blobs(checked, place.open_store(), told)
        await found.db.execute(_SQL.analyze)
    rows = sum(table.rows for table in checked.manifest.tables.values())
    return Restored(checked.header.schema, rows, blobs, tuple(keys), tuple(checked.manifest.sealed_with))


def opened_keys(checked: Checked, passphrase: str | None) -> Mapping[str, bytes]:
    """The keys of an archive; none if there are none in it. Raises PassphraseError."""
    if checked.keys is None:
        return {}
    if passphrase is None:
        raise PassphraseError(
            "this archive has keys, which are sealed with a passphrase: say it with --passphrase-file or "
            "GOCDNEXT_BACKUP_PASSPHRASE, or leave them out with --without-keys"
        )
    return sealing.unseal(checked.keys, passphrase, checked.bound_to)


async def load(
    found: Reached, path: Path, checked: Checked | None, pg_bindir: Path | None, told: Callable[[str], None]
) -> int:
    """Loads the dump in an archive, or a bare one, into an empty database and compares it; the schema's version.

    One transaction: all of it or nothing. Raises ArchiveError, DifferentError, DatabaseStartError.
    """
    row = await found.db.fetchrow(_SQL.applied)
    assert row is not None
    major, here = row["major"], await found.db.fetchval(_SQL.schema_name)
    wanted = checked.header.schema_name if checked else here
    if checked and (checked.header.postgres > major or wanted != here):
        raise ArchiveError(
            f"this archive is of PostgreSQL {checked.header.postgres}, schema {wanted}, and the database to restore into is "
            f"PostgreSQL {major}, schema {here}. Nothing was changed. It needs the same schema and that version or a later one."
        )
    wanted_programs = max(major, checked.header.pg_dump if checked else major)
    programs = await trio.to_thread.run_sync(lambda: clients.find_clients(wanted_programs, pg_bindir))
    variables = clients.environment(found.connect)
    database = variables.get("PGDATABASE") or variables.get("PGUSER") or "gocdnext"
    command: list[str | Path] = [
        programs.program("pg_restore"),
        "--exit-on-error",
        "--single-transaction",
        "--no-owner",
        "--no-privileges",
        "--no-password",
        f"--schema={wanted}",
        f"--dbname={database}",
    ]
    told("restoring the database")
    with archive.opened_file(path) as file:
        await clients.write(command, variables, _dump(file, checked))
    return await _compare(found.db, checked, told)


async def _dump(file: BinaryIO, checked: Checked | None) -> AsyncIterator[bytes]:
    """The bytes of the dump, wherever it lies."""
    if checked is None:
        while piece := file.read(archive.PIECE):
            yield piece
        return
    for opened in archive.reading(file):
        if opened.name == DATABASE:
            for piece in opened.pieces():
                yield piece
            return


async def _compare(db: Database, checked: Checked | None, told: Callable[[str], None]) -> int:
    """Whether the database is what it was, and ours; its schema's version. Raises DifferentError, ArchiveError."""

    async def look(conn: Connection) -> tuple[int, dict[str, archive.Table]]:
        version, _ = await migrate.missing(conn, schema.migrations())
        return version, await taking.table_sums(conn) if checked else {}

    try:
        version, tables = await db.transaction(look)
    except MigrationError as error:
        raise ArchiveError(f"what was restored is not a database of this program: {error}") from error
    if version == 0:
        raise ArchiveError("what was restored is not a database of gocdnext: it has no schema_migrations")
    if checked:
        expected = checked.manifest.tables
        for name in sorted(expected.keys() | tables.keys()):
            if expected.get(name) != tables.get(name):
                raise DifferentError(
                    f"the table {name} is not what it was: {_said(expected, name)}, now {_said(tables, name)}"
                )
        told(f"the database is the same: {sum(table.rows for table in tables.values())} rows in {len(tables)} tables")
    return version


def _said(tables: Mapping[str, archive.Table], name: str) -> str:
    table = tables.get(name)
    return f"{table.rows} rows with the sum {table.digest}" if table else "not there"


async def _blobs(checked: Checked, store: BlobStore, told: Callable[[str], None]) -> int:
    """Puts the contents of blobs into the store; how many. Where only the list is in the archive: how many are there."""
    done = absent = 0
    with archive.opened_file(checked.path) as file:
        for opened in archive.reading(file):
            if archive.is_page(opened.name):
                page = archive.page_of(opened)
                if checked.header.blobs == "list":
                    there = await store.sizes([listed.key for listed in page])
                    absent += sum(there.get(listed.key) != listed.size for listed in page)
                    done += sum(there.get(listed.key) == listed.size for listed in page)
            elif opened.name.startswith(BLOBS):
                await store.put(opened.name.removeprefix(BLOBS), _content(opened), expected=opened.size)
                done += 1
    if absent:
        told(
            f"warning: {absent} blobs of the list are not in the store of this server: their contents are not in the archive"
        )
    told(f"blobs: {done} are there")
    return done


async def _content(opened: Opened) -> AsyncIterator[bytes]:
    for piece in opened.pieces():
        yield piece


@asynccontextmanager
async def _opened(place: Place, database_bytes: int, keys: Mapping[str, bytes]) -> AsyncIterator[Reached]:
    """An empty database, and its keys put in place at the end. What is in the way is refused first."""
    if place.database_url is not None:
        _require_keys_fit(place.state, keys)
        async with reach.as_it_is(place.database_url, place.state, place.pg_bindir) as found:
            await found.db.run(cluster.check_external)
            if not await found.db.fetchval(_SQL.is_empty):
                raise NotEmptyError(
                    "there are tables in that database already. A backup is restored into an empty one: make it with createdb, "
                    "and name it in GOCDNEXT_DATABASE_URL."
                )
            yield found
        if keys:
            with statedir.open_state(place.state) as state:
                _keep(state, keys)
        return
    require_empty(place.state)
    with statedir.open_state(place.state, restoring=True) as state, _emptied_on_failure(place.state):
        statedir.require_space(state.path, database_bytes + cluster.FIRST_START_BYTES)
        async with trio_asyncio.open_loop(), reach.embedded(state, place.pg_bindir) as found:
            yield found
        _keep(state, keys)
        state.restored()


async def _restore_dump(path: Path, place: Place, told: Callable[[str], None]) -> Restored:
    """A dump from before a migration takes the place of the database alone: keys and blobs stay where they are."""
    _check_sum(path)
    if place.database_url is not None:
        async with _opened(place, 0, {}) as found:
            version = await load(found, path, None, place.pg_bindir, told)
            return Restored(version, 0, 0, (), ())
    pg = place.state / "pg"
    if cluster.data_major(pg) is not None:
        raise NotEmptyError(
            f"there is a database in {pg} already. Move it away first: mv {pg} {place.state / 'pg.later'}; it can be removed "
            "when all is well."
        )
    with statedir.open_state(place.state, restoring=True) as state:
        done = False
        try:
            async with trio_asyncio.open_loop(), reach.embedded(state, place.pg_bindir) as found:
                version = await load(found, path, None, place.pg_bindir, told)
                await found.db.execute(_SQL.analyze)
            done = True
        finally:
            if not done:
                shutil.rmtree(pg, ignore_errors=True)
            state.restored()
    return Restored(version, 0, 0, (), ())


def _check_sum(dump: Path) -> None:
    """Holds a dump against the checksum that lies beside it, if one does. Raises ArchiveError."""
    try:
        said = dumps.sum_of(dump).read_text(encoding="utf-8").split()
        same = said[:1] == [dumps.digest(dump)]
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ArchiveError(f"cannot read {dump}: {error}") from None
    if not same:
        raise ArchiveError(f"{dump} is damaged: it is not what its checksum says. Nothing was changed.")


def require_empty(state: Path) -> None:
    """Raises NotEmptyError for a state directory that has something in it, StateDirectoryError for one that is not ours."""
    try:
        names = sorted(set(os.listdir(state)) - _NOT_OURS)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StateDirectoryError(
            f"cannot look into {state}: {error.strerror}. Say another directory with --state."
        ) from None
    if statedir.UNFINISHED in names:
        raise NotEmptyError(
            f"an earlier restore into {state} broke off, and half of it lies there. Remove what is in the directory, and "
            "restore again."
        )
    if names:
        raise NotEmptyError(
            f"{state} is in use: there is {names[0]} in it. A backup is restored into an empty directory: say another one with "
            "--state, or move this one away."
        )


@contextlib.contextmanager
def _emptied_on_failure(state: Path) -> Iterator[None]:
    """All that is in the directory is of this restore: it was empty."""
    try:
        yield
    except BaseException:
        for name in set(os.listdir(state)) - _NOT_OURS:
            path = state / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _require_keys_fit(state: Path, keys: Mapping[str, bytes]) -> None:
    """Raises NotEmptyError when other keys lie in the state directory: what they have sealed would be lost."""
    for name, key in keys.items():
        there = statedir.read_key_file(state, name)
        if there is not None and there != key:
            raise NotEmptyError(
                f"{state / name}.key is another key than the one in the archive. Move it away, or restore without keys "
                "(--without-keys)."
            )


def _keep(state: StateDir, keys: Mapping[str, bytes]) -> None:
    for name, key in keys.items():
        state.keep_key(name, key)
