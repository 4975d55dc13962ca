"""A pooler in front of PostgreSQL, a real PgBouncer: one that keeps sessions is welcome, others are refused with a sentence."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gocdnext.db import pooling
from gocdnext.db.errors import DatabaseStartError
from tests.postgres_fixture import PostgresServer, run_asyncio

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


@pytest.fixture
def pooled(request: pytest.FixtureRequest, postgres_server: PostgresServer, empty_database_url: str) -> Iterator[str]:
    """The URL of a database behind a PgBouncer in the mode, and with the further settings, that the test names."""
    if not Path(PGBOUNCER).exists():
        assert os.environ.get("CI") != "true", "pgbouncer is missing: apt-get install pgbouncer"
        pytest.skip("pgbouncer is not installed")
    name = empty_database_url.removeprefix("postgresql://ci@/").partition("?")[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = postgres_server.directory
    config, users = folder / f"bouncer-{port}.ini", folder / f"bouncer-{port}.users"
    users.write_text('"ci" ""\n')
    config.write_text(
        f"[databases]\n{name} = host={folder} user=ci\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = trust\nauth_file = {users}\n{request.param}\n"
    )
    user = postgres_server.user
    drop: dict[str, Any] = {"user": user.uid, "group": user.gid, "extra_groups": []} if user.dropped else {}
    process = subprocess.Popen(
        [PGBOUNCER, "-q", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **drop,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, process.stdout and process.stdout.read()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
        yield f"postgresql://ci@127.0.0.1:{port}/{name}"
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def check(url: str) -> None:
    run_asyncio(lambda: pooling.check({"dsn": url}))


@pytest.mark.parametrize(
    "pooled",
    [
        "pool_mode = transaction",
        "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 5",
        "pool_mode = statement",
    ],
    indirect=True,
    ids=["transaction", "round-robin", "statement"],
)
def test_a_pooler_that_gives_our_connections_away_is_refused(pooled: str) -> None:
    with pytest.raises(DatabaseStartError, match="pool_mode=session"):
        check(pooled)


@pytest.mark.parametrize("pooled", ["pool_mode = session"], indirect=True)
def test_a_pooler_that_keeps_sessions_is_welcome(pooled: str) -> None:
    check(pooled)

    async def hears() -> bool:
        conn, other = await asyncpg.connect(pooled), await asyncpg.connect(pooled)
        heard: list[object] = []
        await conn.add_listener("here", lambda *said: heard.append(said))
        await other.execute("NOTIFY here")
        while not heard:
            await conn.fetchval("SELECT 1")
        await conn.close()
        await other.close()
        return True

    assert run_asyncio(hears)


def test_postgresql_itself_is_welcome(empty_database_url: str) -> None:
    check(empty_database_url)
