"""The embedded PostgreSQL: made, started, watched, started again, stopped (embedded-postgres A4 to A6).

`run` is one task of the server's nursery. It speaks to PostgreSQL only to see that it answers and to make the
database; schema, pool and statements belong to others. An external server skips all this but `check_external`.
"""

from __future__ import annotations

import collections
import contextlib
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
import trio
import trio_asyncio

from gocdnext.db import leftover, pgconf, queries, statedir
from gocdnext.db.binaries import OLDEST_MAJOR, Binaries, find_binaries
from gocdnext.db.errors import DRIVER_ERRORS, DatabaseStartError, StateDirectoryError, full_message, state_error
from gocdnext.db.postmaster import FAST_STOP, Child, LogFile, running, wait_ready
from gocdnext.db.processes import wait_until_left
from gocdnext.db.runtime import kept_copies, remove_others, stage
from gocdnext.db.serviceuser import ServiceUser, service_user
from gocdnext.db.statedir import StateDir

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

sql = queries.load("cluster")
log = structlog.get_logger(__name__)

DATABASE = "gocdnext"
FIRST_START_BYTES = 192 * 1024 * 1024
"""Free bytes that a first start asks for: programs 31 MB, cluster 38 MB, write-ahead log, and room to begin."""
RESTART_BYTES = 64 * 1024 * 1024
"""Free bytes that PostgreSQL waits for after it ended on a full disk: four segments of write-ahead log."""
SPACE_POLL = 1.0
"""Seconds between two looks for room on a full disk."""
INITDB_TIMEOUT = 300.0
START_TIMEOUT = 300.0
"""Seconds; recovery after a crash has to read the write-ahead log."""
CONNECT_TIMEOUT = 20.0
FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 10.0


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What the embedded cluster needs to know."""

    state: StateDir
    """Open and locked (`statedir.open_state`) for as long as `run` runs."""
    pool_size: int
    """Connections of the server's pool; PostgreSQL allows a few more."""
    pg_bindir: Path | None = None
    """GOCDNEXT_PG_BINDIR: use these programs."""
    restarts: int = 5
    """How often PostgreSQL is started again within `window` seconds before the server gives up."""
    window: float = 600.0


async def run(
    settings: ClusterSettings, *, task_status: trio.TaskStatus[dict[str, Any]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Runs the cluster until cancelled; `started` gives the keyword arguments for `asyncpg.connect`.

    Raises DatabaseStartError (or StateDirectoryError) with a message for the user when it cannot be started, or
    ended more often than allowed. PostgreSQL is stopped when this returns or raises.
    """
    user = await trio.to_thread.run_sync(service_user)
    binaries, data, sockets = await _prepare(settings, user)
    connect = {"host": str(sockets), "port": 5432, "user": pgconf.DATABASE_USER, "database": DATABASE}
    logfile = LogFile(settings.state.log / "postgres.log")
    command: list[str | Path] = [
        binaries.program("postgres"),
        "-D",
        data,
        "-c",
        f"config_file={settings.state.conf / 'postgresql.conf'}",
    ]
    ends: collections.deque[float] = collections.deque()
    served = False
    try:
        while True:
            await leftover.settle(data, sockets, user)
            failure: DatabaseStartError | None = None
            async with running(command, user=user, log=logfile, death=signal.SIGINT, stop=FAST_STOP) as child:
                try:
                    await serve(child, data, connect)
                except DatabaseStartError as error:
                    failure = error
                else:
                    log.info("postgres_ready", pid=child.pid, version=binaries.version, source=binaries.source)
                    if not served:
                        served = True
                        task_status.started(dict(connect))
                        await trio.to_thread.run_sync(remove_others, binaries, settings.state.path)
                    await child.wait()
            if not served:
                raise _explained(failure, child, logfile, settings.state)
            await _back_off(ends, settings, child, logfile, failure)
    finally:
        statedir.remove_socket_dir(settings.state, sockets)


async def check_external(conn: Connection) -> None:
    """Refuses an external server that is too old or does not keep UTF-8. Asyncio code. Raises DatabaseStartError."""
    version = conn.get_server_version()
    if version.major < OLDEST_MAJOR:
        raise DatabaseStartError(
            f"GOCDNEXT_DATABASE_URL leads to PostgreSQL {version.major}; gocdnext needs {OLDEST_MAJOR} or later. "
            "Upgrade that server, or remove the setting to use the embedded one."
        )
    encoding = await conn.fetchval(sql.server_encoding)
    if encoding != "UTF8":
        raise DatabaseStartError(
            f"the database behind GOCDNEXT_DATABASE_URL has the encoding {encoding}; gocdnext needs UTF8. Make one "
            "with: createdb --encoding=UTF8 --template=template0 gocdnext"
        )


def data_major(pg: Path) -> int | None:
    """The major version of the newest data directory below `pg`, as its PG_VERSION says, or None if there is none.

    Raises StateDirectoryError for a PG_VERSION that cannot be read.
    """
    try:
        paths = [path for path in pg.glob("*/PG_VERSION") if path.parent.name.isdigit()]
        return max((int(path.read_text(encoding="utf-8")) for path in paths), default=None)
    except (OSError, ValueError) as error:
        raise StateDirectoryError(f"cannot read PG_VERSION below {pg}: {error}. Restore a backup.") from error


async def _prepare(settings: ClusterSettings, user: ServiceUser) -> tuple[Binaries, Path, Path]:
    """Directories, programs, data directory and configuration; returns programs, data and socket directory."""
    state = settings.state
    major = data_major(state.pg)
    binaries = await trio.to_thread.run_sync(
        lambda: find_binaries(settings.pg_bindir, major, kept=kept_copies(state.path))
    )
    if major is None:
        statedir.require_space(state.path, FIRST_START_BYTES)
    statedir.prepare_for_postgres(state, user)
    if user.dropped:
        binaries = await trio.to_thread.run_sync(stage, binaries, state.path)
    data = state.pg / str(binaries.major)
    if major is None:
        await initdb(binaries, data, user, state)
    sockets = statedir.socket_dir(state, user)
    hba = statedir.write_conf(state, "pg_hba.conf", pgconf.pg_hba_conf(), user)
    ident = statedir.write_conf(state, "pg_ident.conf", pgconf.pg_ident_conf(user), user)
    conf = pgconf.postgresql_conf(
        binaries,
        pool_size=settings.pool_size,
        memory=pgconf.memory_bytes(),
        hba=hba,
        ident=ident,
        sockets=sockets,
    )
    statedir.write_conf(state, "postgresql.conf", conf, user)
    return binaries, data, sockets


async def initdb(binaries: Binaries, data: Path, user: ServiceUser, state: StateDir) -> None:
    """Makes the data directory: under another name first, so that it is whole when it has its own."""
    making = data.with_name(f"{data.name}.tmp")
    with trio.move_on_after(leftover.LEFTOVER_TIMEOUT):
        await wait_until_left(making, leftover.PROGRAM)  # those of an initdb that was killed end by themselves
    await trio.to_thread.run_sync(lambda: shutil.rmtree(making, ignore_errors=True))
    provider = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.has_builtin_provider else []
    options = ["-U", pgconf.DATABASE_USER, "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums", "--auth=peer"]
    command: list[str | Path] = [binaries.program("initdb"), "-D", making, *options, *provider, "--no-instructions"]
    logfile = LogFile(state.log / "initdb.log")
    async with running(command, user=user, log=logfile, death=signal.SIGKILL) as child:
        with trio.move_on_after(INITDB_TIMEOUT):
            await child.wait()
    if child.exit_code != 0:
        raise _explained(None, child, logfile, state)
    try:
        making.rename(data)
        statedir.sync_directory(data.parent)
    except OSError as error:
        raise state_error(data, error) from error


async def serve(child: Child, data: Path, connect: dict[str, Any]) -> None:
    """Returns when the postmaster answers; raises DatabaseStartError when it ended or took too long."""
    with trio.move_on_after(START_TIMEOUT):
        if not await wait_ready(child, data / "postmaster.pid"):
            raise DatabaseStartError("PostgreSQL ended while it started")
        try:
            await trio_asyncio.aio_as_trio(_open_database)(connect)
        except DRIVER_ERRORS as error:
            raise DatabaseStartError(f"PostgreSQL is ready but does not answer: {error}") from error
        return
    raise DatabaseStartError(f"PostgreSQL was not ready within {START_TIMEOUT:.0f} s")


async def _open_database(connect: dict[str, Any]) -> None:
    """Connects once, and makes the database if it is not there yet. Asyncio code."""
    try:
        conn = await asyncpg.connect(**connect, timeout=CONNECT_TIMEOUT)
    except asyncpg.InvalidCatalogNameError:
        first = await asyncpg.connect(**{**connect, "database": "postgres"}, timeout=CONNECT_TIMEOUT)
        with contextlib.closing(_Terminating(first)):
            await first.execute(sql.create_database, timeout=CONNECT_TIMEOUT)
        conn = await asyncpg.connect(**connect, timeout=CONNECT_TIMEOUT)
    with contextlib.closing(_Terminating(conn)):
        await conn.fetchval(sql.ping, timeout=CONNECT_TIMEOUT)


class _Terminating:
    """Makes a connection close at once: nothing is under way on it that deserves a farewell."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def close(self) -> None:
        self._conn.terminate()


async def _back_off(
    ends: collections.deque[float],
    settings: ClusterSettings,
    child: Child,
    logfile: LogFile,
    failure: DatabaseStartError | None,
) -> None:
    """Notes the end of a postmaster and waits before the next; raises DatabaseStartError when there were too many.

    An end on a full disk does not count: there is nothing to be tried before somebody has made room.
    """
    if logfile.says_full() and await _wait_for_room(settings.state):
        return
    now = trio.current_time()
    ends.append(now)
    while ends[0] < now - settings.window:
        ends.popleft()
    log.error("postgres_ended", exit_code=child.exit_code, times=len(ends), last_lines=logfile.tail())
    if len(ends) > settings.restarts:
        raise _explained(failure, child, logfile, settings.state)
    await trio.sleep(min(FIRST_BACKOFF * 2 ** (len(ends) - 1), LONGEST_BACKOFF))


async def _wait_for_room(state: StateDir) -> bool:
    """Whether room had to be waited for."""
    if statedir.free_bytes(state.pg) >= RESTART_BYTES:
        return False
    log.error(
        "postgres_waits_for_room",
        error=f"the disk with {state.pg} is full: PostgreSQL has stopped, and goes on when {RESTART_BYTES // 2**20} MiB "
        "are free there. Nothing that was acknowledged is lost.",
    )
    while statedir.free_bytes(state.pg) < RESTART_BYTES:  # noqa: ASYNC110 - a file system tells nobody
        await trio.sleep(SPACE_POLL)
    return True


def _explained(
    failure: DatabaseStartError | None, child: Child, logfile: LogFile, state: StateDir
) -> DatabaseStartError:
    """The error with PostgreSQL's last words, or the sentence about the full disk."""
    if logfile.says_full():
        return StateDirectoryError(full_message(state.path))
    reason = str(failure) if failure else "PostgreSQL ended"
    return DatabaseStartError(
        f"{reason} (exit code {child.exit_code}). Its last lines, more of them below {state.log}:\n{logfile.tail()}"
    )
