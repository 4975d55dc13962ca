"""From an older schema to the newest: the dump before it, what a failed migration leaves, and the way back that is named."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio_asyncio

from gocdnext.db import dumps, migrate, schema
from gocdnext.db.clients import environment
from gocdnext.db.dumps import Dumper
from gocdnext.db.errors import DatabaseStartError, MigrationError, SchemaNewerError, StateDirectoryError
from gocdnext.db.pool import Database, open_pool
from tests.postgres_fixture import PostgresServer
from tests.service.db.test_full_disk import small_disk

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEWEST = len(migrate.read_migrations(schema.migrations()))
OLD_DATA = Path(__file__).with_name("data_of_schema_0001.sql").read_text()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    async with trio_asyncio.open_loop(), open_pool({"dsn": url}, size=2) as db:
        yield db


@pytest.fixture
def first_release(tmp_path: Path, empty_database_url: str, postgres_server: PostgresServer) -> str:
    """A database as the first schema left it, with everything that it could hold."""
    old = tmp_path / "first"
    old.mkdir()
    shutil.copy(schema.migrations() / "0001_core.sql", old)
    name = empty_database_url.removeprefix("postgresql://ci@/").partition("?")[0]
    postgres_server.admin(lambda conn: migrate.migrate(conn, old, now=NOW), name)
    postgres_server.admin(lambda conn: conn.execute(OLD_DATA), name)
    return empty_database_url


def dumper(state: Path, url: str) -> Dumper:
    return Dumper(state, {"dsn": url}, None)


async def test_data_of_the_first_schema_is_brought_to_the_newest(first_release: str, tmp_path: Path) -> None:
    async with opened(first_release) as db:
        before = {
            table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in ("runs", "job_runs", "log_lines")
        }
        applied = await schema.bring_up(db, NOW, dumper=dumper(tmp_path, first_release), state=tmp_path)
        assert len(applied) == NEWEST - 1
        assert before == {table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in before}
        assert min(before.values()) > 0
        # What is read of it by today's statements: the run, its jobs, and its lines in order.
        assert await db.fetchval("SELECT status FROM runs WHERE counter = 1") == "success"
        texts = await db.fetch("SELECT text FROM log_lines ORDER BY run_id, cursor")
        assert [row["text"] for row in texts][:2] == ["line 1", "line 2"]
        assert await schema.bring_up(db, NOW, dumper=dumper(tmp_path, first_release), state=tmp_path) == []
    (dump,) = (tmp_path / "dumps").glob("*.dump")
    assert dump.name == "schema-0001.dump"
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    assert dump.read_bytes()[:5] == b"PGDMP"


async def test_a_migration_that_fails_names_the_dump_and_changes_nothing(first_release: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(schema.migrations(), broken)
    (broken / f"{NEWEST + 1:04}_bad.sql").write_text("CREATE TABLE half (); SELECT 1 / 0;")
    async with opened(first_release) as db:
        await schema.bring_up(db, NOW, dumper=dumper(tmp_path, first_release), state=tmp_path)
        with pytest.raises(MigrationError) as caught:
            await schema.bring_up(db, NOW, dumper=dumper(tmp_path, first_release), state=tmp_path, directory=broken)
        assert await db.fetchval("SELECT to_regclass('half')") is None
        # The program that was here before finds its own schema, and starts.
        assert await schema.bring_up(db, NOW, dumper=dumper(tmp_path, first_release), state=tmp_path) == []
    assert f"{NEWEST + 1:04}_bad.sql failed and nothing of it was kept" in str(caught.value)
    assert "starts on this database as before" in str(caught.value)
    assert f"gocdnext restore --state {tmp_path} {tmp_path}/dumps/schema-{NEWEST:04}.dump" in str(caught.value)
    assert [version for version, _ in dumps.kept(tmp_path)] == [NEWEST, 1]


async def test_an_older_program_names_the_dump_that_it_understands(first_release: str, tmp_path: Path) -> None:
    old = tmp_path / "first"
    async with opened(first_release) as db:
        with pytest.raises(SchemaNewerError) as without:
            await schema.bring_up(db, NOW, dumper=None, state=tmp_path, directory=_none(tmp_path))
        await schema.bring_up(db, NOW, dumper=dumper(tmp_path, first_release), state=tmp_path)
        with pytest.raises(SchemaNewerError) as caught:
            await schema.bring_up(db, NOW, dumper=None, state=tmp_path, directory=old)
    assert "gocdnext restore" not in str(without.value)
    assert f"schema version {NEWEST}" in str(caught.value)
    assert f"mv {tmp_path}/pg {tmp_path}/pg.later && gocdnext restore --state {tmp_path}" in str(caught.value)
    assert "schema-0001.dump" in str(caught.value)


async def test_two_versions_are_kept(tmp_path: Path) -> None:
    (tmp_path / "dumps").mkdir()
    for name in ("schema-0003.dump", "schema-0011.dump", "schema-0009.dump", "notes", "schema-0012.dump.tmp"):
        (tmp_path / "dumps" / name).touch()
    dumps.forget_old(tmp_path)
    assert sorted(os.listdir(tmp_path / "dumps")) == [
        "notes",
        "schema-0009.dump",
        "schema-0011.dump",
        "schema-0012.dump.tmp",
    ]


async def test_no_room_for_the_dump_is_said_before_anything_changes(first_release: str, tmp_path: Path) -> None:
    with small_disk(tmp_path, 2**20) as disk:
        async with opened(first_release) as db:
            with pytest.raises(StateDirectoryError, match=r"no space left .* GOCDNEXT_DUMP_BEFORE_MIGRATION=false"):
                await schema.bring_up(db, NOW, dumper=dumper(disk, first_release), state=disk)
            assert (await db.run(lambda conn: migrate.missing(conn, schema.migrations())))[0] == 1
        assert not (disk / "dumps").exists()


async def test_a_disk_that_fills_up_while_it_is_dumped(
    first_release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumps, "SPARE_BYTES", 0)
    with small_disk(tmp_path, 2**20) as disk:
        (disk / "filler").write_bytes(bytes(2**20 - 16384))
        async with opened(first_release) as db:
            await db.execute("UPDATE runs SET ref = repeat(md5(counter::text), 2)")
            monkeypatch.setattr("gocdnext.db.statedir.free_bytes", lambda _: 2**40)
            with pytest.raises(DatabaseStartError, match="no space left"):
                await schema.bring_up(db, NOW, dumper=dumper(disk, first_release), state=disk)
            assert (await db.run(lambda conn: migrate.missing(conn, schema.migrations())))[0] == 1
        assert list((disk / "dumps").iterdir()) == []


def test_a_password_never_is_an_argument() -> None:
    made = environment({"dsn": "postgresql://ada:p%40ss@db1:6000,[::1]/ci?sslmode=require&search_path=a b"})
    assert (made["PGUSER"], made["PGPASSWORD"], made["PGHOST"]) == ("ada", "p@ss", "db1,::1")
    assert (made["PGPORT"], made["PGDATABASE"], made["PGSSLMODE"]) == ("6000,", "ci", "require")
    assert made["PGOPTIONS"] == "-c search_path=a\\ b"
    with pytest.raises(DatabaseStartError) as caught:
        environment({"dsn": "postgresql://ada:hush@[::1/ci"})
    assert "hush" not in str(caught.value)


def _none(folder: Path) -> Path:
    empty = folder / "none"
    empty.mkdir()
    return empty
