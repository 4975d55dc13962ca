"""`doctor` on a real PostgreSQL: what it finds in settings, tables and sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import trio
import trio_asyncio

from gocdnext.db.pool import Connection, Database
from gocdnext.doctor import database, tables
from gocdnext.doctor.findings import Finding, Status
from gocdnext.doctor.ground import Ground, stand


@asynccontextmanager
async def looking(url: str, tmp_path: Path, **environ: str) -> AsyncIterator[tuple[Database, Ground]]:
    ground = stand(tmp_path / "state", {"GOCDNEXT_DATABASE_URL": url, **environ})
    async with trio_asyncio.open_loop(), database.connected(ground) as db:
        assert not isinstance(db, Finding), db
        yield db, ground


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {each.name: each for each in findings}


async def test_settings_rights_clock_and_schema(database_url: str, tmp_path: Path) -> None:
    async with looking(database_url, tmp_path) as (db, ground):
        found = by_name(await database.server(db, ground))
        assert found["database version"].status is Status.OK
        assert found["encoding"] == Finding("encoding", Status.OK, "UTF8")
        assert found["time zone"].status is Status.OK
        assert found["database rights"].status is Status.OK
        # The cluster of the tests is not to be trusted with data, and the doctor sees that.
        assert found["durability"].found == "fsync and full_page_writes off"
        assert found["autovacuum"].status is Status.FAIL
        assert (await database.clock(db, ground)).status is Status.OK
        assert (await database.connections(db, ground)).status is Status.OK
        assert (await database.schema(db, ground)).status is Status.OK


async def test_settings_that_are_wrong(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = database_url.removeprefix("postgresql://ci@/").partition("?")[0]
    conn_of = f'ALTER DATABASE "{name}" SET '
    async with looking(database_url, tmp_path) as (db, _):
        for setting in ("timezone = 'Europe/Berlin'", "default_transaction_read_only = on"):
            await db.execute(conn_of + setting)
    monkeypatch.setattr(database, "OLDEST_MAJOR", 99)
    async with looking(database_url, tmp_path, GOCDNEXT_DATABASE_POOL="100") as (db, ground):
        found = by_name(await database.server(db, ground))
        assert found["time zone"].found == "Europe/Berlin instead of UTC"
        assert found["database role"].status is Status.FAIL
        assert "gocdnext needs 99 or later" in found["database version"].advice
        monkeypatch.setattr(database, "SKEW", -1.0)
        monkeypatch.setattr(database, "WRONG", -1.0)
        assert (await database.clock(db, ground)).status is Status.FAIL


async def test_a_schema_of_a_later_program(database_url: str, tmp_path: Path) -> None:
    async with looking(database_url, tmp_path) as (db, ground):
        await db.execute("INSERT INTO schema_migrations VALUES (9999, 'later', '', now())")
        found = await database.schema(db, ground)
    assert found.status is Status.FAIL
    assert "made by a later gocdnext" in found.found


async def test_sizes_bloat_and_broken_indexes(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "DEAD_ROWS", 100)
    async with looking(database_url, tmp_path) as (db, ground):
        assert (await tables.bloat(db, ground))[0].status is Status.OK

        async def spoil(conn: Connection) -> None:
            await conn.execute("CREATE TABLE spoiled (n int)")
            await conn.execute("INSERT INTO spoiled SELECT generate_series(1, 500)")
            await conn.execute("DELETE FROM spoiled WHERE n > 10")
            await conn.execute("INSERT INTO spoiled VALUES (1)")
            with pytest.raises(asyncpg.UniqueViolationError):
                await conn.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON spoiled (n)")
            await conn.execute("SELECT pg_stat_force_next_flush()")

        await db.run(spoil)
        dead, broken = await tables.bloat(db, ground)
        assert dead.found == "spoiled: 490 dead rows beside 11 live ones"
        assert dead.advice.startswith("VACUUM (ANALYZE) spoiled")
        assert broken.found == "the index broken is not valid"
        assert "spoiled" in {row["name"] for row in await tables.sizes(db, 100)}
        names = [row["name"] for row in await tables.sizes(db, 100)]
        assert "log_lines" in names
        assert not any(name.startswith("log_lines_") for name in names)  # the months are one table
        assert (await tables.size(db, ground)).status is Status.OK
        assert (await tables.statements(db, ground))[0].status is Status.SKIPPED


async def test_transactions_that_hold_up_others(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "OLD_TRANSACTION", 0)
    monkeypatch.setattr(tables, "LONG_WAIT", 0)
    async with looking(database_url, tmp_path) as (db, ground), trio.open_nursery() as nursery:
        inside, gate = trio.Event(), trio.Event()

        async def hold() -> None:
            async def work(conn: Connection) -> None:
                await conn.execute("LOCK TABLE projects")
                inside.set()
                await trio_asyncio.trio_as_aio(gate.wait)()

            await db.transaction(work)

        nursery.start_soon(hold)
        with trio.fail_after(30):
            await inside.wait()
        nursery.start_soon(db.fetchval, "SELECT count(*) FROM projects")
        with trio.fail_after(30):
            while len(found := await tables.transactions(db, ground)) < 2 or "waited" not in found[-1].found:
                await trio.lowlevel.checkpoint()
        gate.set()
    assert "idle in transaction" in found[0].found
    assert "pg_terminate_backend" in found[0].advice
    assert "for a lock of process" in found[-1].found
