"""The migrations runner on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import pytest

from gocdnext.db import queries
from gocdnext.db.errors import MigrationError, SchemaNewerError
from gocdnext.db.migrate import migrate, read_migrations
from tests.postgres_fixture import run_asyncio

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def on(url: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    async def connected() -> T:
        conn = await asyncpg.connect(url)
        try:
            return await work(conn)
        finally:
            await conn.close()

    return run_asyncio(connected)


def run(url: str, directory: Path) -> list[str]:
    return on(url, lambda conn: migrate(conn, directory, now=NOW))


def contents(url: str) -> list[tuple[str, str]]:
    """Every column of every own table, and the rows of the migrations table."""

    async def read(conn: Connection) -> list[tuple[str, str]]:
        columns = await conn.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
        )
        rows: list[asyncpg.Record] = []
        if any(column["table_name"] == "schema_migrations" for column in columns):
            rows = await conn.fetch("SELECT version::text, checksum FROM schema_migrations ORDER BY version")
        return [(row[0], row[1]) for row in [*columns, *rows]]

    return on(url, read)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE a (x int);\nINSERT INTO a VALUES (1);\n")
    (tmp_path / "0002_second.sql").write_text("ALTER TABLE a ADD COLUMN y text;\n")
    return tmp_path


def test_fresh_and_again(empty_database_url: str, files: Path) -> None:
    assert run(empty_database_url, files) == ["0001_first", "0002_second"]
    after = contents(empty_database_url)
    assert ("a", "y") in after
    assert run(empty_database_url, files) == []
    assert contents(empty_database_url) == after
    assert on(empty_database_url, lambda conn: conn.fetchval("SELECT min(applied_at) FROM schema_migrations")) == NOW


def test_a_later_file_is_applied_on_its_own(empty_database_url: str, files: Path) -> None:
    run(empty_database_url, files)
    (files / "0003_third.sql").write_text("CREATE TABLE b ();")
    assert run(empty_database_url, files) == ["0003_third"]


def test_a_changed_file_is_refused_by_name(empty_database_url: str, files: Path) -> None:
    run(empty_database_url, files)
    before = contents(empty_database_url)
    (files / "0001_first.sql").write_text("CREATE TABLE a (x bigint);")
    (files / "0003_third.sql").write_text("CREATE TABLE b ();")
    with pytest.raises(MigrationError, match=r"0001_first\.sql is not the file"):
        run(empty_database_url, files)
    assert contents(empty_database_url) == before


def test_a_newer_schema_is_refused_before_anything_is_written(empty_database_url: str, files: Path) -> None:
    run(empty_database_url, files)
    before = contents(empty_database_url)
    (files / "0002_second.sql").unlink()
    with pytest.raises(SchemaNewerError, match="later gocdnext"):
        run(empty_database_url, files)
    assert contents(empty_database_url) == before


def test_a_newer_schema_is_refused_in_a_transaction_that_may_not_write(empty_database_url: str, files: Path) -> None:
    """The server itself vouches that the refusal comes before any write."""
    run(empty_database_url, files)
    (files / "0002_second.sql").unlink()

    async def read_only(conn: Connection) -> None:
        await conn.execute("SET default_transaction_read_only = on")
        with pytest.raises(SchemaNewerError):
            await migrate(conn, files, now=NOW)

    on(empty_database_url, read_only)


def test_a_hole_in_what_was_applied_is_refused(empty_database_url: str, files: Path) -> None:
    run(empty_database_url, files)
    on(empty_database_url, lambda conn: conn.execute("DELETE FROM schema_migrations WHERE version = 1"))
    with pytest.raises(MigrationError, match="0001 was not"):
        run(empty_database_url, files)


def test_a_failing_file_leaves_nothing_of_itself(empty_database_url: str, files: Path) -> None:
    (files / "0003_third.sql").write_text("CREATE TABLE b (); SELECT 1/0;")
    with pytest.raises(MigrationError, match=r"0003_third\.sql failed.*division by zero"):
        run(empty_database_url, files)
    assert [row for row in contents(empty_database_url) if row[0] in ("b", "3")] == []
    (files / "0003_third.sql").write_text("CREATE TABLE b ();")
    assert run(empty_database_url, files) == ["0003_third"]


def test_a_file_that_ends_its_transaction_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("COMMIT;")
    with pytest.raises(MigrationError, match="ends its own transaction"):
        run(empty_database_url, tmp_path)


def test_several_at_once_apply_each_file_once(empty_database_url: str, files: Path) -> None:
    async def at_once() -> list[list[str]]:
        conns = [await asyncpg.connect(empty_database_url) for _ in range(4)]
        try:
            return list(await asyncio.gather(*(migrate(conn, files, now=NOW) for conn in conns)))
        finally:
            for conn in conns:
                await conn.close()

    results = run_asyncio(at_once)
    assert sorted(results) == [[], [], [], ["0001_first", "0002_second"]]


def test_the_lock_is_free_after_a_failure(empty_database_url: str, files: Path) -> None:
    (files / "0002_second.sql").write_text("nonsense")

    async def twice(conn: Connection) -> None:
        with pytest.raises(MigrationError):
            await migrate(conn, files, now=NOW)
        held = await conn.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert held == 0

    on(empty_database_url, twice)


@pytest.mark.parametrize("name", ["1_x.sql", "0001_X.sql", "0001.sql", "0001-x.sql"])
def test_a_wrong_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(MigrationError, match="not a migration's name"):
        read_migrations(tmp_path)


@pytest.mark.parametrize("names", [["0002_a.sql"], ["0001_a.sql", "0003_b.sql"], ["0001_a.sql", "0001_b.sql"]])
def test_gaps_and_doubles_are_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("")
    with pytest.raises(MigrationError, match="missing or"):
        read_migrations(tmp_path)


def test_the_products_own_migrations(empty_database_url: str) -> None:
    directory = queries.sql_dir() / "migrations"
    assert run(empty_database_url, directory) == [migration.label for migration in read_migrations(directory)]
    assert run(empty_database_url, directory) == []
