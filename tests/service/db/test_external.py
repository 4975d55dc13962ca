"""Servers of the user's own: which are accepted, and what is said to the others."""

from __future__ import annotations

from typing import Any, cast

import asyncpg
import pytest
from asyncpg.types import ServerVersion

from gocdnext.db.cluster import check_external
from gocdnext.db.errors import DatabaseStartError
from tests.postgres_fixture import PostgresServer, run_asyncio


class OldServer:
    """A connection to a server that is too old to be had here; it is asked for nothing but its version."""

    def get_server_version(self) -> ServerVersion:
        return ServerVersion(14, 11, 0, "final", 0)


async def check(url: str) -> None:
    conn = await asyncpg.connect(url)
    try:
        await check_external(conn)
    finally:
        await conn.close()


def test_a_current_server_is_accepted(empty_database_url: str) -> None:
    run_asyncio(lambda: check(empty_database_url))


def test_an_old_server_is_refused_with_a_sentence() -> None:
    with pytest.raises(DatabaseStartError, match=r"PostgreSQL 14; gocdnext needs 15 or later"):
        run_asyncio(lambda: check_external(cast("Any", OldServer())))


def test_a_database_that_does_not_keep_utf8_is_refused(postgres_server: PostgresServer) -> None:
    postgres_server.execute(
        "CREATE DATABASE ascii TEMPLATE template0 ENCODING SQL_ASCII LOCALE_PROVIDER libc LOCALE 'C'"
    )
    try:
        with pytest.raises(DatabaseStartError, match="SQL_ASCII"):
            run_asyncio(lambda: check(postgres_server.dsn("ascii")))
    finally:
        postgres_server.drop(postgres_server.dsn("ascii"))
