"""The database and its settings, over a connection: version, rights, durability, room for connections, clock, schema.

The embedded one is asked only while its server runs: nothing is started to be looked at.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any

from gocdnext.db import migrate, queries
from gocdnext.db.binaries import OLDEST_MAJOR
from gocdnext.db.errors import DRIVER_ERRORS, DatabaseStartError
from gocdnext.db.pgconf import SPARE_CONNECTIONS
from gocdnext.db.pool import Database, DatabaseUnavailableError, open_pool
from gocdnext.db.reach import running
from gocdnext.doctor.findings import Finding, fail, ok, skipped, warn
from gocdnext.doctor.ground import Ground

NEWEST_MAJOR = 18
"""The newest PostgreSQL that this has been tried with."""
CONNECTIONS = 3
CONNECT_WITHIN = 5.0
"""Seconds."""
SKEW, WRONG = 1.0, 30.0
"""Seconds that this machine and the database may be apart, and that leases and links do not survive."""
_SQL = queries.load("doctor")
_SCHEMA = queries.load("migrate")


_AWAY: tuple[type[Exception], ...] = (DatabaseStartError, DatabaseUnavailableError, *DRIVER_ERRORS, ValueError)


@asynccontextmanager
async def connected(ground: Ground) -> AsyncIterator[Database | Finding]:
    """The database, or why there is none to ask. Wants an open trio-asyncio loop."""
    url = ground.settings.database_url
    if url is None and ground.server_pid is None:
        yield skipped("database", "the embedded one runs only while its server does; start it to have it looked at")
        return
    advice = "Look at the log of the server; run doctor as the server's user or as root."
    if url is not None:
        advice = "Correct GOCDNEXT_DATABASE_URL, start that server, or let this machine in (pg_hba.conf, firewall)."
    try:
        connect: dict[str, Any] = running(ground.state) if url is None else {"dsn": url}
        pool = open_pool({**connect, "timeout": CONNECT_WITHIN}, size=CONNECTIONS)
        async with AsyncExitStack() as stack:
            db = await stack.enter_async_context(pool)
            keep = stack.pop_all()
    except _AWAY as error:
        yield fail("database", _without_password(str(error) or "no answer", ground), advice)
        return
    async with keep:
        yield db


def _without_password(text: str, ground: Ground) -> str:
    """asyncpg quotes what it was given when it cannot read it."""
    url = ground.settings.database_url
    return "GOCDNEXT_DATABASE_URL cannot be read as the address of a database" if url and url in text else text


async def server(db: Database, ground: Ground) -> list[Finding]:
    """Version, encoding, time zone and durability."""
    row = await db.fetchrow(_SQL.server)
    assert row is not None
    return [_version(row), *_text_and_time(row), *_durability(row), *_writable(row), await _rights(db)]


def _version(row: Any) -> Finding:
    name, major = "database version", row["version_number"] // 10_000
    if major < OLDEST_MAJOR:
        return fail(name, f"PostgreSQL {row['version']}", f"Upgrade it: gocdnext needs {OLDEST_MAJOR} or later.")
    if major > NEWEST_MAJOR:
        advice = f"gocdnext was tried with {OLDEST_MAJOR} to {NEWEST_MAJOR}; see whether there is a newer gocdnext."
        return warn(name, f"PostgreSQL {row['version']}", advice)
    return ok(name, f"PostgreSQL {row['version']}")


def _text_and_time(row: Any) -> Iterator[Finding]:
    advice = "Make one that keeps text as UTF-8: createdb --encoding=UTF8 --template=template0 gocdnext"
    utf8 = row["encoding"] == "UTF8"
    yield ok("encoding", "UTF8") if utf8 else fail("encoding", row["encoding"], advice)
    zone = row["timezone"]
    if zone in ("UTC", "Etc/UTC", "GMT"):
        yield ok("time zone", zone)
    else:
        advice = (
            "Times that people see in psql and in its log differ from gocdnext's: ALTER DATABASE … SET timezone = 'UTC'"
        )
        yield warn("time zone", f"{zone} instead of UTC", advice)


def _durability(row: Any) -> Iterator[Finding]:
    off = [name for name in ("fsync", "full_page_writes") if row[name] != "on"]
    if off:
        advice = "Switch it on (ALTER SYSTEM SET … = on) and restart: a power cut now destroys the database."
        yield fail("durability", f"{' and '.join(off)} off", advice)
    elif row["synchronous_commit"] == "off":
        advice = "ALTER SYSTEM SET synchronous_commit = on: what agents and webhooks were told is kept may be lost."
        yield fail("durability", "synchronous_commit off", advice)
    else:
        yield ok("durability", f"fsync and full_page_writes on, synchronous_commit {row['synchronous_commit']}")
    if row["autovacuum"] != "on":
        advice = "ALTER SYSTEM SET autovacuum = on: without it tables only grow, and one day PostgreSQL stops."
        yield fail("autovacuum", "off", advice)


def _writable(row: Any) -> Iterator[Finding]:
    if row["standby"]:
        yield fail("database role", "a standby, which takes no writes", "Let the address lead to the primary.")
    elif row["read_only"] == "on":
        advice = "Switch default_transaction_read_only off for this role, or let the address lead elsewhere."
        yield fail("database role", "transactions are read-only", advice)


async def _rights(db: Database) -> Finding:
    row = await db.fetchrow(_SQL.rights)
    assert row is not None
    if row["in_schema"]:
        return ok("database rights", "this role may bring the schema up to date")
    advice = "As its owner: GRANT CREATE ON SCHEMA public TO the role, or make the role the owner of the database."
    return fail("database rights", "this role may not make tables", advice)


async def connections(db: Database, ground: Ground) -> Finding:
    """Whether the pool fits into max_connections, with what others have taken."""
    server, taken = await db.fetchrow(_SQL.server), await db.fetchrow(_SQL.connections)
    assert server is not None
    assert taken is not None
    room, pool = server["max_connections"] - server["reserved"], ground.settings.pool_size
    said = f"{taken['taken']} of {room} taken, {taken['here']} by this database; a server takes up to {pool + 2}"
    advice = "Raise max_connections, lower GOCDNEXT_DATABASE_POOL, or see who else is connected (pg_stat_activity)."
    if pool + 2 > room:
        return fail("connections", said, advice)
    if taken["taken"] > room - SPARE_CONNECTIONS // 2:
        return warn("connections", said, advice)
    return ok("connections", said)


async def clock(db: Database, ground: Ground) -> Finding:
    """How far this machine's clock and the database's are apart, give or take half a round trip."""
    began, before = time.monotonic(), time.time()
    there: datetime = await db.fetchval(_SQL.clock)
    trip = time.monotonic() - began
    skew = abs(there.timestamp() - (before + trip / 2)) - trip / 2
    if skew < SKEW:
        return ok("clock of the database", f"the same within {max(skew, trip / 2):.2g} s")
    advice = "Keep both right by NTP: several servers on one database must agree on when a lease or a gate has expired."
    said = f"{skew:.1f} s from this machine's"
    return (fail if skew > WRONG else warn)("clock of the database", said, advice)


async def schema_version(db: Database) -> int:
    """The number of the last migration, 0 in an empty database."""
    if not await db.fetchval(_SCHEMA.table_exists):
        return 0
    applied = await db.fetch(_SCHEMA.applied)
    return int(applied[-1]["version"]) if applied else 0


async def schema(db: Database, ground: Ground) -> Finding:
    """Whether this program knows the schema that is there."""
    there = await schema_version(db)
    known = len(migrate.read_migrations(queries.sql_dir() / "migrations"))
    if there > known:
        advice = "Start that later version, or restore an older backup: this program refuses to serve."
        return fail("schema", f"version {there}, made by a later gocdnext; this one knows {known}", advice)
    if there < known:
        return ok("schema", f"version {there}; the next start of this program brings it to {known}")
    return ok("schema", f"version {there}")
