"""What the supervision of PostgreSQL needs from Linux: parent-death signals, pidfds, who works in a directory, syncfs.

Knows nothing of PostgreSQL's start and stop rules; `cluster` does.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

import trio

POLL = 0.05
"""Seconds between two looks at /proc."""
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(signum: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: the kernel sends `signum` to the child when the *thread* that forked it ends.

    Popen must therefore be called in the main (trio) thread and never in a worker thread (embedded-postgres A5).
    """
    parent = os.getpid()

    def preexec() -> None:
        # Runs between fork and exec, after the change of user, which would have cleared it.
        _libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the line above

    return preexec


def sync_filesystem(path: Path) -> None:
    """Writes everything to the disk that the file system of `path` holds back. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


async def wait_exit(pidfd: int) -> None:
    """Returns when the process behind `pidfd` has ended."""
    await trio.lowlevel.wait_readable(pidfd)


def executable(pid: int) -> Path | None:
    """The program that process `pid` runs, or None if there is no such process or it is not ours to see."""
    try:
        return Path(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
    except OSError:
        return None


def works_in(pid: int, directory: Path) -> bool:
    """True when the current directory of process `pid` is `directory` (PostgreSQL's is its data directory)."""
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", directory)
    except OSError:
        return False


def owner(pid: int) -> int | None:
    """The user id that process `pid` runs as, or None if there is no such process."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def processes_in(directory: Path, program: str) -> list[int]:
    """Process ids, ascending, that run a program called `program` with `directory` as their current directory."""
    pids = sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [pid for pid in pids if works_in(pid, directory) and _name(pid) == program]


async def wait_until_left(directory: Path, program: str) -> None:
    """Returns when `processes_in` is empty. The caller sets the bound."""
    while processes_in(directory, program):  # noqa: ASYNC110 - /proc tells nobody when it changes
        await trio.sleep(POLL)


def _name(pid: int) -> str | None:
    found = executable(pid)
    return found.name if found else None
