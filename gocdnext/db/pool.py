"""The connection pool. One crossing between trio and asyncio per unit of work, not per statement.

asyncpg lives on the trio-asyncio loop. A unit of work is an asyncio coroutine function that is handed one raw
asyncpg connection: everything it awaits is asyncpg. Code that runs on the asyncio side already (the agent
server) calls the `aio_` forms and crosses nothing. Nothing here knows a table.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import orjson
import trio
import trio_asyncio

from gocdnext.db import queries

T = TypeVar("T")
if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:  # asyncpg's classes are generic in their stubs only
    Connection = asyncpg.Connection
Work = Callable[[Connection], Awaitable[T]]

_SQL = queries.load("pool")
COMMAND_TIMEOUT = 30.0
"""Seconds that one statement may take before asyncpg cancels it."""
ACQUIRE_TIMEOUT = 10.0
"""Seconds to wait for a free connection before the database counts as unavailable."""

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    # A full disk, too many connections: what is asked for may work once there is room.
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    # A statement on a connection whose last words ("terminating connection") are being read.
    asyncpg.InternalClientError,
    ConnectionError,
    TimeoutError,
    FileNotFoundError,
)


class DatabaseUnavailableError(Exception):
    """The database cannot be reached now; the same call may work later (HTTP: 503 with Retry-After)."""


class Database:
    """A pool of connections. `run` and `transaction` are for trio code, `aio_run` and `aio_transaction` for asyncio code.

    All four raise DatabaseUnavailableError when there is no connection to be had or it broke on the way; a transaction
    whose commit was under way may or may not have happened then. Other database errors pass through.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def run(self, work: Work[T]) -> T:
        """Does `work` on one connection, each statement in a transaction of its own."""
        result: T = await trio_asyncio.aio_as_trio(self.aio_run)(work)
        return result

    async def transaction(self, work: Work[T]) -> T:
        """Does `work` in one transaction, which is rolled back if it raises."""
        result: T = await trio_asyncio.aio_as_trio(self.aio_transaction)(work)
        return result

    async def aio_run(self, work: Work[T]) -> T:
        """`run` for a caller on the asyncio side."""
        with translated():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT) as conn:
                return await work(conn)  # type: ignore[arg-type]

    async def aio_transaction(self, work: Work[T]) -> T:
        """`transaction` for a caller on the asyncio side."""
        with translated():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT) as conn, conn.transaction():
                return await work(conn)  # type: ignore[arg-type]

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """All rows of one statement."""
        return await self.run(lambda conn: conn.fetch(query, *args))

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row of one statement, or None."""
        return await self.run(lambda conn: conn.fetchrow(query, *args))

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first value of the first row of one statement, or None."""
        return await self.run(lambda conn: conn.fetchval(query, *args))

    async def execute(self, query: str, *args: Any) -> str:
        """Runs one statement and returns its command tag."""
        return await self.run(lambda conn: conn.execute(query, *args))

    async def ping(self, within: float) -> None:
        """One round trip in at most `within` seconds. Raises DatabaseUnavailableError."""
        with trio.move_on_after(within):
            await self.execute(_SQL.ping)
            return
        raise DatabaseUnavailableError(f"the database did not answer within {within:g} s")


@contextlib.contextmanager
def translated() -> Any:
    """The one table from what asyncpg and the socket raise to what callers handle."""
    try:
        yield
    except _AWAY as error:
        raise DatabaseUnavailableError(f"the database is not available: {error or type(error).__name__}") from error


async def _prepare(conn: Connection) -> None:
    await conn.set_type_codec("jsonb", encoder=_to_json, decoder=orjson.loads, schema="pg_catalog")


async def _nothing_to_reset(_: Connection) -> None:
    """asyncpg would spend a round trip per unit of work on resetting what no unit of work here ever sets: there are no
    session settings, cursors, listeners or session locks, and a transaction ends with its block."""


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()


@contextlib.asynccontextmanager
async def open_pool(connect: dict[str, Any], *, size: int) -> AsyncIterator[Database]:
    """A pool of up to `size` connections made with the keyword arguments `connect` of `asyncpg.connect`."""
    pool = await trio_asyncio.aio_as_trio(_create)(connect, size)
    try:
        yield Database(pool)
    finally:
        # Short and bounded: connections are told goodbye, whatever is still under way is cut after two seconds.
        with trio.CancelScope(shield=True):
            with trio.move_on_after(2):
                await trio_asyncio.aio_as_trio(pool.close)()
            pool.terminate()


async def _create(connect: dict[str, Any], size: int) -> asyncpg.Pool[asyncpg.Record]:
    with translated():
        return await asyncpg.create_pool(
            **connect,
            min_size=1,
            max_size=size,
            command_timeout=COMMAND_TIMEOUT,
            max_inactive_connection_lifetime=60.0,
            init=_prepare,
            reset=_nothing_to_reset,
        )
