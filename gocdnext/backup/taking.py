"""Takes a backup while the server runs: one moment of the database, and the blobs that belong to that moment.

Two transactions hold the moment. One has the lock of the blob sweepers, so that no blob is removed until it is copied, on
whichever server; it holds no snapshot and keeps nothing else waiting. The other has the snapshot that pg_dump, the checksums
and the list of blobs all see; it ends before the blobs are copied. Blobs are written before their row is complete and never
change, so all that the moment knows are there. Nothing is locked that requests need.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO

import asyncpg
import msgspec
import trio
import trio_asyncio

from gocdnext import __version__
from gocdnext.backup import archive, sealing
from gocdnext.backup.archive import (
    BLOBS,
    DATABASE,
    FORMAT,
    HEADER,
    KEYS,
    MANIFEST,
    PAGE,
    Header,
    Listed,
    Manifest,
    Table,
    Writer,
)
from gocdnext.blobs.store import BlobStore
from gocdnext.db import clients, dumps, migrate, queries, schema, statedir
from gocdnext.db.dumps import About
from gocdnext.db.errors import StateDirectoryError
from gocdnext.db.pool import Connection
from gocdnext.db.reach import Reached
from gocdnext.errors import ConflictError, NotFoundError, UpstreamError

HOLD_WITHIN = 120.0
"""Seconds that a sweeper may still be at work, before we give up."""
LONGEST = 6 * 3600.0
"""Seconds that the statements of one backup may take."""
_SQL = queries.load("backup")
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What goes into the archive beside the database."""

    contents: bool
    """The contents of blobs, not only their list."""
    keys: Mapping[str, bytes]
    """By the names of `sealing.NAME`; empty: none."""
    passphrase: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was taken."""

    path: Path
    size: int
    header: Header
    manifest: Manifest
    has_keys: bool


async def take(
    found: Reached,
    store: BlobStore,
    path: Path,
    wanted: Wanted,
    *,
    pg_bindir: Path | None,
    now: datetime,
    told: Callable[[str], None],
) -> Taken:
    """Writes the archive; `told` hears how far it is.

    Raises NotEmptyError, ConflictError, NotFoundError, PassphraseError, UpstreamError (a blob cannot be read),
    DatabaseStartError and DatabaseUnavailableError; nothing is left of the archive then.
    """
    if wanted.keys:
        sealing.require_good(wanted.passphrase)
    taking = _Taking(found, store, path, wanted, pg_bindir, now, told)

    async def holding(conn: Connection) -> Taken:
        await conn.execute(_SQL.no_idle_limit)
        try:
            await conn.execute(_SQL.hold_blobs, timeout=HOLD_WITHIN)
        except TimeoutError:
            raise ConflictError(
                f"another backup is being taken, or blobs have been swept for {HOLD_WITHIN:.0f} s: try again when that is over"
            ) from None
        taken: Taken = await trio_asyncio.trio_as_aio(taking.run)()
        return taken

    return await found.db.transaction(holding)


class _Taking:
    def __init__(
        self,
        found: Reached,
        store: BlobStore,
        path: Path,
        wanted: Wanted,
        pg_bindir: Path | None,
        now: datetime,
        told: Callable[[str], None],
    ) -> None:
        self._found = found
        self._store = store
        self._path = path
        self._wanted = wanted
        self._pg_bindir = pg_bindir
        self._now = now
        self._told = told
        self._tables: dict[str, Table] = {}
        self._sealed_with: list[str] = []
        self._blobs = self._blob_bytes = self._missing = self._damaged = 0
        self._pages = self._copied = self._tell_at = 0

    async def run(self) -> Taken:
        with archive.writing(self._path) as writer, tempfile.TemporaryFile(dir=self._path.parent) as spool:
            header = await self._database(writer, spool)
            if self._wanted.contents:
                self._require_room()
            spool.seek(0)
            while page := [msgspec.json.decode(line, type=Listed) for line in islice(spool, PAGE)]:
                await self._page(writer, page)
            if self._wanted.keys:
                bound_to = writer.members[HEADER].sha256.encode()
                writer.document(KEYS, sealing.seal(self._wanted.keys, self._wanted.passphrase, bound_to))
            manifest = Manifest(
                members=dict(writer.members),
                chain=writer.chain,
                tables=self._tables,
                blobs=self._blobs,
                blob_bytes=self._blob_bytes,
                missing=self._missing,
                damaged=self._damaged,
                sealed_with=self._sealed_with,
            )
            writer.document(MANIFEST, msgspec.json.encode(manifest))
        size = self._path.stat().st_size
        return Taken(self._path, size, header, manifest, bool(self._wanted.keys))

    async def _database(self, writer: Writer, spool: IO[bytes]) -> Header:
        """Everything that is of one moment. Gives the header; the list of blobs is in `spool`."""

        async def moment(conn: Connection) -> Header:
            async with conn.transaction(isolation="repeatable_read"):
                await conn.execute(_SQL.no_idle_limit)
                about = await _about(conn)
                snapshot = await conn.fetchval(_SQL.export_snapshot)
                header: Header = await trio_asyncio.trio_as_aio(self._dump)(writer, about, snapshot)
                self._tables = await table_sums(conn)
                await conn.execute(_SQL.make_sealed_keys)
                self._sealed_with = [row["id"] for row in await conn.fetch(_SQL.sealed_keys)]
                async for listed in blobs_of(conn):
                    self._blobs += 1
                    self._blob_bytes += listed.size
                    spool.write(msgspec.json.encode(listed) + b"\n")
            rows = sum(table.rows for table in self._tables.values())
            self._told(
                f"{rows} rows in {len(self._tables)} tables, {self._blobs} blobs with {self._blob_bytes // _MIB} MiB"
            )
            return header

        return await self._found.db.run(moment)

    async def _dump(self, writer: Writer, about: About, snapshot: str) -> Header:
        programs = await trio.to_thread.run_sync(
            lambda: clients.find_clients(about.major, self._pg_bindir, encrypted=about.encrypted)
        )
        header = Header(
            format=FORMAT,
            version=__version__,
            schema=about.version,
            postgres=about.major,
            pg_dump=programs.major,
            schema_name=about.schema_name,
            created_at=self._now.isoformat(),
            database_bytes=about.database_bytes,
            blobs="content" if self._wanted.contents else "list",
        )
        self._told(
            f"dumping the database: {about.database_bytes // _MIB} MiB on its disk, schema {about.version}, "
            f"PostgreSQL {about.major}"
        )
        writer.document(HEADER, msgspec.json.encode(header))
        command, variables = dumps.command(programs, about, snapshot), clients.environment(self._found.connect)
        with writer.member(DATABASE) as adding:
            await clients.read(command, variables, adding.write)
        self._told(f"the database is dumped: {adding.size // _MIB} MiB")
        return header

    def _require_room(self) -> None:
        free = statedir.free_bytes(self._path.parent)
        if free < self._blob_bytes:
            raise StateDirectoryError(
                f"there is no space left for {self._path}: the blobs take {self._blob_bytes // _MIB} MiB and {free // _MIB} "
                "MiB are free there. Free some, say another file, or take their list only (--blobs list)."
            )

    async def _page(self, writer: Writer, page: list[Listed]) -> None:
        """A page of the list, and the contents of what is on it."""
        self._pages += 1
        writer.document(archive.page_name(self._pages), b"".join(msgspec.json.encode(each) + b"\n" for each in page))
        for listed in page if self._wanted.contents else ():
            try:
                await self._content(writer, listed)
            except OSError as error:
                raise UpstreamError(f"the blob {listed.key} cannot be read: {error.strerror or error}") from error
            self._copied += listed.size
            if self._copied >= self._tell_at:
                self._tell_at = self._copied + max(self._blob_bytes // 10, 64 * _MIB)
                self._told(f"blobs: {self._copied // _MIB} of {self._blob_bytes // _MIB} MiB")

    async def _content(self, writer: Writer, listed: Listed) -> None:
        async with self._store.open(listed.key) as blob:
            if blob is None:
                self._missing += 1
                return
            with writer.member(BLOBS + listed.key) as adding:
                async for piece in blob.pieces(0, blob.size):
                    adding.write(piece)
        if listed.sha256 not in ("", adding.sha256):
            self._damaged += 1


async def blobs_of(conn: Connection) -> AsyncIterator[Listed]:
    """The blobs that are complete; in a transaction. Asyncio code."""
    there = await conn.fetchrow(_SQL.blob_tables)
    assert there is not None
    for table, statement in (
        ("artifacts", _SQL.artifacts),
        ("caches", _SQL.caches),
        ("log_archives", _SQL.log_archives),
    ):
        if there[table]:
            async for row in conn.cursor(statement, prefetch=PAGE):
                yield Listed(row["storage_key"], row["size_bytes"] or 0, row["sha256"])


async def table_sums(conn: Connection) -> dict[str, Table]:
    """What is in each table of ours; in a transaction. Asyncio code."""
    await conn.execute(_SQL.make_table_sums)
    rows = await conn.fetch(_SQL.table_sums, timeout=LONGEST)
    return {row["name"]: Table(row["rows"], row["digest"]) for row in rows}


async def _about(conn: Connection) -> About:
    """What there is to dump. Raises NotFoundError, and ConflictError for the schema of a later program."""
    try:
        about = await dumps.about_of(conn)
    except asyncpg.UndefinedTableError:
        raise NotFoundError("no gocdnext has used this database yet: there is nothing to back up") from None
    known = len(migrate.read_migrations(schema.migrations()))
    if about.version > known:
        raise ConflictError(
            f"the database has schema version {about.version} and this program knows versions up to {known}: back it up with "
            "the gocdnext that runs on it"
        )
    return about
