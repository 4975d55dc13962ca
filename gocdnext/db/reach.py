"""The database of a server, for a command that stands beside it: whether the server runs, stands still, or is elsewhere.

An external database is connected to. The embedded one is reached over its socket while a server runs, and started for as
long as the block lasts when none does. Nothing here knows a table.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio
import trio_asyncio

from gocdnext.db import cluster, pgconf, schema, statedir
from gocdnext.db.dumps import Dumper
from gocdnext.db.errors import DatabaseStartError, InstanceRunningError, StateDirectoryError
from gocdnext.db.pool import Database, open_pool
from gocdnext.db.statedir import StateDir

_PIDFILE_SOCKET_LINE = 4
"""Line of `postmaster.pid`, from 0, that names the socket's directory."""
_POOL = 3


@dataclass(frozen=True, slots=True)
class Reached:
    """A database as it was found, whatever its schema."""

    db: Database
    connect: dict[str, Any]
    """What `asyncpg.connect` takes; also where client programs go."""
    started: bool
    """Embedded, and started for this block: no server runs on it."""


@asynccontextmanager
async def reach(database_url: str | None, state_dir: Path, pg_bindir: Path | None) -> AsyncIterator[Database]:
    """A database whose schema is there. Raises DatabaseStartError, DatabaseUnavailableError; needs no open loop."""
    async with as_it_is(database_url, state_dir, pg_bindir) as found:
        if found.started:
            dumper = Dumper(state_dir, found.connect, pg_bindir)
            await schema.bring_up(found.db, datetime.now(UTC), dumper=dumper, state=state_dir)
        yield found.db


@asynccontextmanager
async def as_it_is(database_url: str | None, state_dir: Path, pg_bindir: Path | None) -> AsyncIterator[Reached]:
    """`reach` without a look at the schema."""
    async with trio_asyncio.open_loop():
        if database_url is not None:
            async with open_pool({"dsn": database_url}, size=_POOL) as db:
                yield Reached(db, {"dsn": database_url}, started=False)
            return
        try:
            with statedir.open_state(state_dir) as state:
                async with embedded(state, pg_bindir) as found:
                    yield found
            return
        except InstanceRunningError:
            connect = running(state_dir)
        async with open_pool(connect, size=_POOL) as db:
            yield Reached(db, connect, started=False)


@asynccontextmanager
async def embedded(state: StateDir, pg_bindir: Path | None) -> AsyncIterator[Reached]:
    """Runs the embedded database of an open state directory for the length of the block. Inside an open loop."""
    async with trio.open_nursery() as nursery:
        settings = cluster.ClusterSettings(state, _POOL, pg_bindir)
        connect: dict[str, Any] = await nursery.start(cluster.run, settings)
        async with open_pool(connect, size=_POOL) as db:
            yield Reached(db, connect, started=True)
        nursery.cancel_scope.cancel()


def running(state_dir: Path) -> dict[str, Any]:
    """The keyword arguments for a connection to the embedded database of the server that runs on this directory.

    Raises DatabaseStartError while it starts or stops.
    """
    try:
        major = cluster.data_major(state_dir / "pg")
        lines = (state_dir / "pg" / str(major) / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        socket = lines[_PIDFILE_SOCKET_LINE].strip()
    except (OSError, ValueError, IndexError, StateDirectoryError):
        raise DatabaseStartError(
            f"a server runs on {state_dir} but its database does not: try again when it is ready, as its user or as root"
        ) from None
    return {"host": socket, "port": 5432, "user": pgconf.DATABASE_USER, "database": cluster.DATABASE}
