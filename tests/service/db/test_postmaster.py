"""PostgreSQL's log file, its configuration, and the life of a child process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_asyncio

from gocdnext.db import pgconf
from gocdnext.db.cluster import serve
from gocdnext.db.errors import DatabaseStartError
from gocdnext.db.postmaster import LogFile, is_ready, running
from gocdnext.db.serviceuser import ServiceUser

US = ServiceUser("us", os.geteuid(), os.getegid(), dropped=False)


def test_the_log_is_bounded_and_its_end_is_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "postgres.log", limit=1000, tail=3)
    for number in range(1000):
        log.write(f"line {number}\n".encode())
    assert {path.name for path in tmp_path.iterdir()} == {"postgres.log", "postgres.log.1"}
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert log.tail() == "line 997\nline 998\nline 999"
    assert (tmp_path / "postgres.log").read_text().endswith("line 999\n")


def test_lines_come_in_pieces(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "postgres.log")
    log.write(b"one\ntw")
    assert log.tail() == "one\ntw"
    log.write(b"o\nPANIC: No space left on device")
    assert log.tail().splitlines()[1] == "two"
    assert log.says_full()


def test_a_log_that_cannot_be_written_is_still_remembered(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "missing" / "postgres.log")
    log.write(b"last words\n")
    assert log.tail() == "last words"


@pytest.mark.parametrize(
    ("memory", "buffers"), [(256, 32), (512, 32), (2048, 128), (8192, 512), (65536, 512)], ids=lambda n: f"{n}M"
)
def test_shared_buffers_follow_the_memory_within_bounds(memory: int, buffers: int) -> None:
    assert pgconf.shared_buffers(memory * pgconf.MIB) == buffers * pgconf.MIB


def test_the_identity_map_lets_in_root_only_when_that_is_us() -> None:
    assert pgconf.pg_ident_conf(ServiceUser("a", 7, 7, dropped=False)) == 'ciapp "a" ci\n'
    assert pgconf.pg_ident_conf(ServiceUser("a", 7, 7, dropped=True)) == 'ciapp "a" ci\nciapp "root" ci\n'


def test_ready_means_our_own_child(tmp_path: Path) -> None:
    pid_file = tmp_path / "postmaster.pid"
    assert not is_ready(pid_file, 7)
    pid_file.write_text("7\n/data\n1\n5432\n/run\n\n1 1\nstarting\n")
    assert not is_ready(pid_file, 7)
    pid_file.write_text("7\n/data\n1\n5432\n/run\n\n1 1\nready   \n")
    assert is_ready(pid_file, 7)
    assert not is_ready(pid_file, 8)


async def test_a_child_that_ignores_its_stop_is_killed(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    command = ["sh", "-c", "trap '' INT; echo up; exec sleep 1000"]
    async with running(command, user=US, log=log, death=signal.SIGKILL, stop=[(signal.SIGINT, 0.05)]) as child:
        with trio.fail_after(30):
            while log.tail() != "up":
                await trio.lowlevel.checkpoint()
    assert child.exit_code == -signal.SIGKILL


async def test_a_cancelled_child_is_stopped_and_its_last_words_are_read(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    command = ["sh", "-c", "trap 'echo bye; exit 0' INT; echo up; while :; do sleep 0.01; done"]
    with trio.CancelScope() as scope:
        async with running(command, user=US, log=log, death=signal.SIGKILL, stop=[(signal.SIGINT, 30)]) as child:
            with trio.fail_after(30):
                while log.tail() != "up":
                    await trio.lowlevel.checkpoint()
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert child.exit_code == 0
    assert log.tail() == "up\nbye"


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatabaseStartError, match="cannot run"):
        async with running([tmp_path / "no"], user=US, log=LogFile(tmp_path / "log"), death=signal.SIGKILL):
            pytest.fail("started")


@contextlib.contextmanager
def dying_server(directory: Path) -> Iterator[dict[str, Any]]:
    """Welcomes each client and tells it in the same breath that it is about to die, as PostgreSQL does in a crash."""
    fatal = b"SFATAL\0C57P02\0Mterminating connection because of crash of another server process\0\0"
    version = b"server_version\x0018.6\0"
    welcome = b"R" + struct.pack("!ii", 8, 0) + b"S" + struct.pack("!i", 4 + len(version)) + version
    welcome += b"Z" + struct.pack("!i", 5) + b"I"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / ".s.PGSQL.5432"))
        listening.listen()
        listening.settimeout(30)

        def serve() -> None:
            with contextlib.suppress(OSError):
                client, _ = listening.accept()
                with client:
                    client.settimeout(30)
                    client.recv(4096)
                    client.sendall(welcome + b"E" + struct.pack("!i", 4 + len(fatal)) + fatal)
                    client.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield {"host": str(directory), "user": "ci", "database": "gocdnext"}
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_a_postgres_that_dies_while_it_greets_us_is_one_failed_start(reachable: Path) -> None:
    """asyncpg answers this with an InternalClientError, which is neither a PostgresError nor an InterfaceError."""
    log = LogFile(reachable / "log")
    with dying_server(reachable) as connect:
        async with (
            trio_asyncio.open_loop(),
            running(["sleep", "1000"], user=US, log=log, death=signal.SIGKILL) as child,
        ):
            (reachable / "postmaster.pid").write_text(f"{child.pid}\n/data\n1\n5432\n/run\n\n1 1\nready\n")
            with pytest.raises(DatabaseStartError, match="does not answer"):
                await serve(child, reachable, connect)
