"""A real PostgreSQL for tests: one cluster per test process, one fresh migrated database per test.

It uses the same binaries as the product, but with fsync off: tests about durability start the product's own
cluster instead. Nothing here needs a running event loop, so it works from plain, trio and asyncio tests alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import pytest

from gocdnext.db import migrate, queries
from gocdnext.db.binaries import find_binaries
from gocdnext.db.processes import die_with_parent
from gocdnext.db.runtime import stage
from gocdnext.db.serviceuser import service_user

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")
START_TIMEOUT = 60.0
"""Seconds that initdb and the start may take."""
SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_buffers=64MB",
    "autovacuum=off",
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "log_timezone=UTC",
    "timezone=UTC",
)


def run_asyncio(work: Callable[[], Awaitable[T]]) -> T:
    """Runs asyncio code to its end on a loop of its own, from wherever the caller is: a thread keeps loops apart."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    async def main() -> None:
        outcome.append(await work())

    def target() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # handed over to the caller below
            failure.append(error)

    thread = threading.Thread(target=target, name="test-database")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


class PostgresServer:
    """A running cluster in a temporary directory, reached over its unix socket as user `ci`."""

    def __init__(self, directory: Path) -> None:
        self.user = service_user()
        self.directory = directory
        found = find_binaries()
        self.binaries = stage(found, directory) if self.user.dropped else found
        self.data = directory / "data"
        self._numbers = itertools.count(1)
        self._template: str | None = None
        self._template_lock = threading.Lock()
        if self.user.dropped:
            os.chown(directory, self.user.uid, self.user.gid)
        self._initdb()
        self._process = self._popen(
            "postgres",
            "-D",
            str(self.data),
            "-c",
            f"unix_socket_directories={directory}",
            *itertools.chain.from_iterable(("-c", setting) for setting in SETTINGS),
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def dsn(self, database: str = "postgres") -> str:
        """A connection URL for asyncpg, libpq and GOCDNEXT_DATABASE_URL."""
        return f"postgresql://ci@/{database}?host={self.directory}"

    def admin(
        self, work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[T]], database: str = "postgres"
    ) -> T:
        """Does asyncio work on a connection of its own to `database`."""

        async def connected() -> T:
            conn = await asyncpg.connect(self.dsn(database), timeout=30)
            try:
                return await work(conn)
            finally:
                await conn.close()

        return run_asyncio(connected)

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Runs one statement outside a transaction."""
        self.admin(lambda conn: conn.execute(statement), database)

    def empty_database(self) -> str:
        """Makes a database without any table and returns its URL."""
        return self._create("template0")

    def migrated_database(self) -> str:
        """Makes a database with the current schema by copying a template, and returns its URL."""
        with self._template_lock:
            if self._template is None:
                self._template = self._migrated_template()
        return self._create(self._template)

    def drop(self, url: str) -> None:
        """Removes a database made here, whoever is still connected."""
        name = url.removeprefix("postgresql://ci@/").partition("?")[0]
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def log(self) -> str:
        """What the server has logged so far."""
        return (self.directory / "postgres.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """Fast stop; the directory belongs to the caller."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _create(self, template: str) -> str:
        name = f"test_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.dsn(name)

    def _migrated_template(self) -> str:
        name = "migrated"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        directory = queries.sql_dir() / "migrations"
        self.admin(lambda conn: migrate.migrate(conn, directory, now=datetime.now(UTC)), name)
        return name

    def _initdb(self) -> None:
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if self.binaries.has_builtin_provider else []
        arguments = [
            "-U",
            "ci",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            *locale,
            "--auth=trust",
            "--no-sync",
            "--no-instructions",
        ]
        process = self._popen("initdb", "-D", str(self.data), *arguments)
        if process.wait(START_TIMEOUT) != 0:
            raise RuntimeError(f"initdb failed:\n{self.log()}")

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self.directory / "postgres.log", "ab") as log:
            return subprocess.Popen(
                [self.binaries.program(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGQUIT),
                **self.user.popen_kwargs(),
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        pid_file = self.data / "postmaster.pid"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"postgres ended with {self._process.returncode}:\n{self.log()}")
            with contextlib.suppress(OSError):
                lines = pid_file.read_text().splitlines()
                if len(lines) >= 8 and lines[7].strip() == "ready":
                    return
            time.sleep(0.01)
        raise RuntimeError(f"postgres was not ready within {START_TIMEOUT} s:\n{self.log()}")


@contextlib.contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server in a fresh temporary directory, gone afterwards. The path is short: it holds a unix socket."""
    directory = Path(tempfile.mkdtemp(prefix="gocdnext-pg-", dir="/tmp"))
    try:
        server = PostgresServer(directory)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The cluster of this test process."""
    with running_server() as server:
        yield server


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database with the current schema."""
    url = postgres_server.migrated_database()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database without any table."""
    url = postgres_server.empty_database()
    yield url
    postgres_server.drop(url)
