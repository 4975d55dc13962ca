"""What a killed predecessor left behind: a running PostgreSQL, or its stale lock files.

Nothing is killed by name: a process is PostgreSQL's own if its program is `postgres`, it works in this very data
directory and runs as its user. Nothing else is touched, and a process that will not stop makes us refuse.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import structlog
import trio

from gocdnext.db.errors import DatabaseStartError
from gocdnext.db.processes import executable, owner, processes_in, wait_exit, wait_until_left, works_in
from gocdnext.db.serviceuser import ServiceUser
from gocdnext.db.statedir import SOCKET_NAME

PROGRAM = "postgres"
PID_FILE = "postmaster.pid"
SOCKET_LOCK = f"{SOCKET_NAME}.lock"
LEFTOVER_TIMEOUT = 60.0
"""Seconds that a leftover may take to stop."""

log = structlog.get_logger(__name__)


async def settle(data: Path, sockets: Path, user: ServiceUser, timeout: float = LEFTOVER_TIMEOUT) -> None:
    """Returns when no PostgreSQL runs on `data`, which must be under our lock, and whose socket is in `sockets`.

    A postmaster gets SIGINT (a fast, clean stop); children that lost theirs end by themselves. Raises
    DatabaseStartError, with nothing changed, when one is another user's or is still there after `timeout` seconds.
    """
    strangers = [pid for pid in processes_in(data, PROGRAM) if owner(pid) not in (user.uid, None)]
    if strangers:
        raise DatabaseStartError(
            f"process {strangers[0]} of user {owner(strangers[0])} runs PostgreSQL on {data}. Stop it, or start "
            "gocdnext as that user."
        )
    postmaster = read_pid(data)
    with trio.move_on_after(timeout):
        if postmaster is not None:
            await _stop(postmaster, data, user)
        await wait_until_left(data, PROGRAM)
        for lock in (data / PID_FILE, sockets / SOCKET_LOCK):
            _remove_stale(lock)
        return
    left = processes_in(data, PROGRAM)
    raise DatabaseStartError(
        f"PostgreSQL of an earlier start still runs on {data} (process {left[0] if left else postmaster}) and did not "
        f"stop within {timeout:.0f} s. Look at the log in the state directory; stop it with: "
        f"kill -INT {left[0] if left else postmaster}"
    )


def read_pid(data: Path) -> int | None:
    """The process id in postmaster.pid, or None."""
    return _pid_in(data / PID_FILE)


def _pid_in(lock: Path) -> int | None:
    try:
        first = lock.read_text(encoding="utf-8", errors="replace").splitlines()[0].strip()
    except (OSError, IndexError):
        return None
    return int(first) if first.isascii() and first.isdigit() and 1 < int(first) < 2**31 else None


async def _stop(pid: int, data: Path, user: ServiceUser) -> None:
    """Stops the postmaster `pid` if it is this directory's, and waits for its end."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # Looked at after the pidfd was opened: the number cannot be given to another process unnoticed.
        program = executable(pid)
        if program is None or program.name != PROGRAM or not works_in(pid, data) or owner(pid) != user.uid:
            return
        log.warning("leftover_postgres_stopping", pid=pid, data=str(data))
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGINT)
        await wait_exit(pidfd)
    finally:
        os.close(pidfd)


def _remove_stale(lock: Path) -> None:
    """Removes a lock file whose number is somebody else's by now: PostgreSQL would take that for a running server.

    Only called when no PostgreSQL works in the directory. Numbers come back soon in a container, and where nobody
    reaps orphans a killed postmaster keeps its own.
    """
    pid = _pid_in(lock)
    if pid is None or owner(pid) is None:
        return
    log.warning("stale_lock_file_removed", pid=pid, path=str(lock))
    with contextlib.suppress(FileNotFoundError):
        folder = os.open(lock.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.unlink(lock.name, dir_fd=folder)
        finally:
            os.close(folder)
