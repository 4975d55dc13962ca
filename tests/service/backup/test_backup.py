"""Backups of a real database with real blobs: taken, restored, proved; and what is refused."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio_asyncio

from gocdnext.backup import checking, restoring, sealing, taking, verifying
from gocdnext.backup.errors import ArchiveError, DifferentError, NotEmptyError, PassphraseError
from gocdnext.backup.restoring import Place
from gocdnext.backup.taking import Taken, Wanted
from gocdnext.blobs import sweeping
from gocdnext.blobs.filesystem import FilesystemStore
from gocdnext.db import dumps, schema, statedir
from gocdnext.db.dumps import Dumper
from gocdnext.db.errors import DatabaseStartError, StateDirectoryError
from gocdnext.db.pool import open_pool
from gocdnext.db.reach import Reached
from gocdnext.errors import ConflictError, NotFoundError
from gocdnext.secrets.sealing import key_id
from tests.postgres_fixture import PostgresServer
from tests.service.backup.archives import make, nothing
from tests.service.db.test_full_disk import mounted, small_disk

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PASSPHRASE = "correct horse battery"
KEYS = {"secrets": b"s" * 32, "operator-token": b"t" * 32}
OLD_DATA = Path(__file__).parents[1].joinpath("db", "data_of_schema_0001.sql").read_text()
BLOBS = {f"run/{number}/job/x/artifact": os.urandom(1000 * number) for number in (1, 2, 3)}
FILL = """
INSERT INTO artifacts (id, run_id, job_run_id, path, storage_key, status, size_bytes, content_sha256, created_at, expires_at)
SELECT gen_random_uuid(), j.run_id, j.id, v.key, v.key, 'ready', v.size, v.sha, now(), now() + interval '1 day'
FROM (SELECT id, run_id FROM job_runs LIMIT 1) j, unnest($1::text [], $2::bigint [], $3::text []) v (key, size, sha)
"""
SEALED = """
INSERT INTO secrets (id, name, value_sealed, key_id, created_at, updated_at)
VALUES (gen_random_uuid(), 'TOKEN', '\\x00', $1, now(), now())
"""


@asynccontextmanager
async def reached(url: str) -> AsyncIterator[Reached]:
    async with trio_asyncio.open_loop(), open_pool({"dsn": url}, size=3) as db:
        yield Reached(db, {"dsn": url}, started=False)


def store_in(folder: Path) -> FilesystemStore:
    return FilesystemStore(folder, min_free=0)


async def content(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
async def blobs(tmp_path: Path) -> FilesystemStore:
    """A store with all blobs in it."""
    store = store_in(tmp_path / "blobs")
    for key, data in BLOBS.items():
        await store.put(key, content(data))
    return store


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with runs, lines, artifacts, and a secret under the first of KEYS; tests only read it."""
    url = postgres_server.migrated_database()
    name = url.removeprefix("postgresql://ci@/").partition("?")[0]
    digests = [hashlib.sha256(data).hexdigest() for data in BLOBS.values()]
    postgres_server.admin(lambda conn: conn.execute(OLD_DATA), name)
    postgres_server.admin(lambda conn: conn.execute(FILL, [*BLOBS], [*map(len, BLOBS.values())], digests), name)
    postgres_server.admin(lambda conn: conn.execute(SEALED, key_id(KEYS["secrets"])), name)
    yield url
    postgres_server.drop(url)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "COST", 2**14)


async def take(url: str, store: FilesystemStore, path: Path, **changes: Any) -> Taken:
    wanted = replace(Wanted(contents=True, keys={}, passphrase=PASSPHRASE), **changes)
    async with reached(url) as found:
        return await taking.take(found, store, path, wanted, pg_bindir=None, now=NOW, told=nothing)


def place_of(url: str | None, folder: Path) -> Place:
    return Place(url, folder / "state", None, lambda: store_in(folder / "state" / "artifacts"))


async def restored(path: Path, place: Place, passphrase: str | None = PASSPHRASE) -> restoring.Restored:
    return await restoring.restore(path, place, passphrase=lambda: passphrase, told=nothing)


async def sums(url: str) -> dict[str, Any]:
    async with reached(url) as found:
        return await found.db.transaction(taking.table_sums)


def leaf(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        (group,) = group.exceptions
    return group


async def refused(path: Path, place: Place, kind: type[Exception], passphrase: str | None = PASSPHRASE) -> str:
    with pytest.raises((kind, BaseExceptionGroup)) as caught:
        await restored(path, place, passphrase)
    error = leaf(caught.value)
    assert isinstance(error, kind), error
    return str(error)


async def test_from_one_database_into_another(
    filled: str, blobs: FilesystemStore, empty_database_url: str, tmp_path: Path
) -> None:
    taken = await take(filled, blobs, tmp_path / "a", keys=KEYS)
    assert (taken.manifest.blobs, taken.manifest.missing, taken.manifest.damaged) == (3, 0, 0)
    assert taken.manifest.sealed_with == [key_id(KEYS["secrets"])]
    place = place_of(empty_database_url, tmp_path)
    done = await restored(tmp_path / "a", place)
    assert (done.blobs, done.keys) == (3, ("secrets", "operator-token"))
    assert await sums(empty_database_url) == await sums(filled)
    for key, data in BLOBS.items():
        assert (place.state / "artifacts" / key).read_bytes() == data
    for name, key_bytes in KEYS.items():
        assert statedir.read_key_file(place.state, name) == key_bytes
    # Again: the database is not empty any more.
    assert "tables in that database" in await refused(tmp_path / "a", place, NotEmptyError)
    # Rows that are made from now on get numbers behind those that were there.
    async with reached(empty_database_url) as found:
        assert await found.db.fetchval("SELECT nextval(pg_get_serial_sequence('modifications', 'id'))") == 2
        assert await schema.bring_up(found.db, NOW, dumper=None) == []


async def test_a_backup_is_proved_and_a_false_one_is_not(filled: str, blobs: FilesystemStore, tmp_path: Path) -> None:
    path = tmp_path / "a"
    await take(filled, blobs, path, keys=KEYS)
    proof = {"scratch": None, "pg_bindir": None, "now": NOW, "told": nothing}
    assert (await verifying.verify(path, passphrase=PASSPHRASE, **proof)).keys is True
    with pytest.raises(PassphraseError, match="do not open"):
        await verifying.verify(path, passphrase="wrong horse battery", **proof)
    # Its manifest says other things than what its dump gives.
    checked = checking.check(path, nothing)
    tables = dict(checked.manifest.tables)
    tables["runs"] = replace_rows(tables["runs"])
    false = replace(checked, manifest=msgspec_replace(checked.manifest, tables=tables))
    async with in_state(tmp_path / "scratch") as found:
        with pytest.raises(DifferentError, match=r"the table runs is not what it was: 201 rows .* now 200 rows"):
            await restoring.load(found, path, false, None, nothing)
    await take(filled, blobs, tmp_path / "b", keys={"secrets": b"z" * 32})
    with pytest.raises(DifferentError, match="sealed with the key"):
        await verifying.verify(tmp_path / "b", passphrase=PASSPHRASE, **proof)


def replace_rows(table: Any) -> Any:
    return msgspec_replace(table, rows=table.rows + 1)


def msgspec_replace(struct: Any, **changes: Any) -> Any:
    from msgspec.structs import replace as changed

    return changed(struct, **changes)


@asynccontextmanager
async def in_state(folder: Path) -> AsyncIterator[Reached]:
    """A fresh embedded database below a folder that PostgreSQL's user can pass."""
    for parent in (folder, *folder.parents):
        if parent.exists() and parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    from gocdnext.db import reach

    with statedir.open_state(folder) as state:
        async with trio_asyncio.open_loop(), reach.embedded(state, None) as found:
            yield found


async def test_a_moment_is_held_while_others_write_and_sweep(
    filled: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Whatever is deleted while a backup copies is in it, and whatever comes is not."""

    class Meanwhile(FilesystemStore):
        """Changes things under the backup's hands, when the first blob is read."""

        swept: int | None = None

        def open(self, key: str) -> Any:
            return self._opened(key)

        @asynccontextmanager
        async def _opened(self, key: str) -> AsyncIterator[Any]:
            if self.swept is None:
                async with open_pool({"dsn": url}, size=1) as db:
                    await db.execute("DELETE FROM artifacts")
                    await db.execute("DELETE FROM log_lines")
                    self.swept = await sweeping.sweep(db, self, None, datetime.now(UTC) + timedelta(days=2))
            async with super().open(key) as blob:
                yield blob

    url = postgres_server._create(filled.removeprefix("postgresql://ci@/").partition("?")[0])
    before = await sums(url)
    store = Meanwhile(tmp_path / "blobs", min_free=0)
    for key, data in BLOBS.items():
        await store.put(key, content(data))
    taken = await take(url, store, tmp_path / "a")
    assert store.swept == 0
    assert (taken.manifest.blobs, taken.manifest.missing) == (3, 0)
    assert taken.manifest.tables == before
    assert checking.check(tmp_path / "a", nothing).manifest.blobs == 3
    async with reached(url) as found:
        later = datetime.now(UTC) + timedelta(days=2)
        assert await sweeping.sweep(found.db, store, None, later) == 3
        assert await store.sizes([*BLOBS]) == {}
    # Now they are gone, which a backup says and is no worse for.
    async with reached(url) as found:
        digest = hashlib.sha256(b"what it was").hexdigest()
        await found.db.execute(FILL, ["gone", "changed"], [1, 2], [digest, digest])
    await store.put("changed", content(b"no"))
    taken = await take(url, store, tmp_path / "b")
    assert (taken.manifest.missing, taken.manifest.damaged) == (1, 1)
    assert checking.check(tmp_path / "b", nothing).manifest.damaged == 1
    postgres_server.drop(url)


async def test_two_at_a_time_wait_for_each_other(
    filled: str, blobs: FilesystemStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "HOLD_WITHIN", 0.05)
    async with reached(filled) as found:

        async def meanwhile(conn: Any) -> None:
            await conn.fetchval("SELECT pg_advisory_xact_lock(hashtextextended('gocdnext.sweep.blobs', 0))")
            with pytest.raises(ConflictError, match="another backup"):
                await trio_asyncio.trio_as_aio(take_again)()

        async def take_again() -> None:
            await taking.take(found, blobs, tmp_path / "a", Wanted(True, {}, ""), pg_bindir=None, now=NOW, told=nothing)

        await found.db.transaction(meanwhile)
    assert not (tmp_path / "a").exists()


async def test_only_the_list_of_blobs(
    filled: str, blobs: FilesystemStore, empty_database_url: str, tmp_path: Path
) -> None:
    taken = await take(filled, blobs, tmp_path / "a", contents=False)
    assert taken.header.blobs == "list"
    said: list[str] = []
    place = replace(place_of(empty_database_url, tmp_path), open_store=lambda: blobs)
    (tmp_path / "blobs" / next(iter(BLOBS))).unlink()
    done = await restoring.restore(tmp_path / "a", place, passphrase=None, told=said.append)
    assert done.blobs == 2
    assert any("1 blobs of the list are not in the store" in line for line in said)


async def test_a_database_of_somebody_else_is_not_backed_up(
    empty_database_url: str, database_url: str, blobs: FilesystemStore, tmp_path: Path
) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await take(empty_database_url, blobs, tmp_path / "a")
    assert isinstance(leaf(caught.value), NotFoundError)
    async with reached(database_url) as found:
        await found.db.execute("INSERT INTO schema_migrations VALUES (9999, 'later', '', now())")
    with pytest.raises(BaseExceptionGroup) as caught:
        await take(database_url, blobs, tmp_path / "a")
    assert "schema version 9999" in str(leaf(caught.value))
    assert not list(tmp_path.glob("*a*.part"))


@pytest.mark.slow
async def test_a_disk_that_fills_up_during_a_backup(filled: str, blobs: FilesystemStore, tmp_path: Path) -> None:
    with small_disk(tmp_path, 2**20) as disk:
        filler = disk / "filler"
        for room in (8192, 40_000):  # within the dump, and for the blobs
            filler.write_bytes(bytes(2**20 - room))
            with pytest.raises((StateDirectoryError, BaseExceptionGroup)) as caught:
                await take(filled, blobs, disk / "a")
            assert "no space left" in str(leaf(caught.value))
            assert os.listdir(disk) == ["filler"]
        filler.unlink()
        await take(filled, blobs, disk / "a")


async def test_places_that_are_not_empty_are_refused(tmp_path: Path) -> None:
    path, place = make(tmp_path / "a"), place_of(None, tmp_path)
    place.state.mkdir(mode=0o700)
    (place.state / "secrets.key").write_bytes(b"x" * 32)
    assert "there is secrets.key in it" in await refused(path, place, NotEmptyError)
    assert os.listdir(place.state) == ["secrets.key"]
    # One that broke off, because its process was killed: no server starts on half of it.
    (place.state / "secrets.key").rename(place.state / statedir.UNFINISHED)
    assert "broke off" in await refused(path, place, NotEmptyError)
    with pytest.raises(StateDirectoryError, match="broke off"), statedir.open_state(place.state):
        pass


async def test_a_directory_of_somebody_else_and_a_read_only_one(tmp_path: Path) -> None:
    path, place = make(tmp_path / "a"), place_of(None, tmp_path)
    place.state.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(place.state, 12345, 12345)
        assert "belongs to user 12345" in await refused(path, place, StateDirectoryError)
        os.chown(place.state, 0, 0)
    with mounted(place.state, "-t", "tmpfs", "-o", "ro,mode=0700", "tmpfs"):
        assert "read-only" in await refused(path, place, StateDirectoryError)
    assert os.listdir(place.state) == []


async def test_bad_archives_change_nothing(tmp_path: Path, filled: str, blobs: FilesystemStore) -> None:
    place = place_of(None, tmp_path)
    await take(filled, blobs, tmp_path / "a", keys=KEYS)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    assert "cut off" in await refused(tmp_path / "cut", place, ArchiveError)
    assert "schema version 9999" in await refused(make(tmp_path / "newer", schema=9999), place, ArchiveError)
    assert "do not open" in await refused(tmp_path / "a", place, PassphraseError, "wrong horse battery")
    assert "--without-keys" in await refused(tmp_path / "a", place, PassphraseError, None)
    assert not place.state.exists()
    # Keys of another server lie there, and an external database is to be restored.
    with statedir.open_state(place.state) as state:
        state.keep_key("secrets", b"o" * 32)
    assert "another key" in await refused(tmp_path / "a", replace(place, database_url=filled), NotEmptyError)


@pytest.mark.slow
async def test_what_fails_on_the_way_leaves_an_empty_place(tmp_path: Path) -> None:
    """A whole archive whose dump is none: PostgreSQL is running by the time that this is noticed."""
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    path, place = make(tmp_path / "a"), place_of(None, tmp_path)
    assert "pg_restore ended" in await refused(path, place, DatabaseStartError)
    assert os.listdir(place.state) == []
    later = make(tmp_path / "later", postgres=99)
    assert "PostgreSQL 99" in await refused(later, place, ArchiveError)
    assert os.listdir(place.state) == []


@pytest.mark.slow
async def test_a_dump_from_before_an_upgrade_takes_the_place_of_the_database(
    filled: str, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    place = place_of(None, tmp_path)
    async with reached(filled) as found:
        with statedir.open_state(place.state) as state:
            state.keep_key("secrets", KEYS["secrets"])
            dump = await Dumper(state.path, found.connect, None).dump(found.db)
    done = await restored(dump, place)
    assert done.schema == dumps.kept(place.state)[0][0]
    assert statedir.read_key_file(place.state, "secrets") == KEYS["secrets"]
    assert f"mv {place.state}/pg" in await refused(dump, place, NotEmptyError)
    async with in_state(place.state) as found:
        assert await found.db.transaction(taking.table_sums) == await sums(filled)
    # One that is cut off, and one of something else.
    shutil.rmtree(place.state / "pg")
    dump.write_bytes(dump.read_bytes()[:-2000])
    assert "is damaged" in await refused(dump, place, ArchiveError)
    other = tmp_path / "other.dump"
    other.write_bytes(b"PGDMP and nothing else")
    assert "pg_restore ended" in await refused(other, place, DatabaseStartError)
    assert not (place.state / "pg").exists()
    assert not (place.state / statedir.UNFINISHED).exists()
