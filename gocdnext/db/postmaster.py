"""One life of a child process of PostgreSQL: start, log, readiness, end (embedded-postgres A5).

The child is started in the trio thread, because the kernel's parent-death signal is tied to the thread that
forked. When to start it again is `cluster`'s to decide.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import trio

from gocdnext.db.errors import DatabaseStartError
from gocdnext.db.processes import die_with_parent, wait_exit
from gocdnext.db.serviceuser import ServiceUser

READY_POLL = 0.01
"""Seconds between two looks into postmaster.pid while it starts."""
STOP_TIMEOUT = 60.0
"""Seconds for a fast stop (SIGINT), which rolls back what is open and writes a checkpoint."""
QUIT_TIMEOUT = 10.0
"""Seconds for an immediate stop (SIGQUIT) after that."""
LOG_TAIL_TIMEOUT = 2.0
"""Seconds to wait for the last lines of a process that has ended."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_CHUNK = 16 * 1024


class LogFile:
    """PostgreSQL's log: at most two files of `limit` bytes, and the last lines in memory for error messages."""

    def __init__(self, path: Path, *, limit: int = 4 * 1024 * 1024, tail: int = 20) -> None:
        self._path = path
        self._limit = limit
        self._tail: collections.deque[str] = collections.deque(maxlen=tail)
        self._rest = b""

    def write(self, chunk: bytes) -> None:
        """Appends to the file. A full disk loses lines of the file, never the caller's day, and not the tail."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[-_CHUNK:]
        self._tail.extend(line.decode("utf-8", "replace") for line in lines)
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size + len(chunk) > self._limit:
                self._path.rename(self._path.with_name(f"{self._path.name}.1"))
            # A short append to the page cache: not worth a thread.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.write(descriptor, chunk)
            finally:
                os.close(descriptor)

    def tail(self) -> str:
        """The last lines, the unfinished one included."""
        return "\n".join([*self._tail, self._rest.decode("utf-8", "replace")]).strip()

    def says_full(self) -> bool:
        """Whether the last lines complain about a full disk."""
        tail = self.tail()
        return "No space left on device" in tail or "Disk quota exceeded" in tail


class Child:
    """A running child process. Made by `running`."""

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int) -> None:
        self._process = process
        self._pidfd = pidfd

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.poll()

    async def wait(self) -> int:
        """Returns the exit code when the process has ended."""
        await wait_exit(self._pidfd)
        return self._process.wait()

    async def stop(self, *steps: tuple[signal.Signals, float]) -> None:
        """Sends each signal in turn and waits as many seconds for the end; kills at the end of the list."""
        for signum, seconds in steps:
            if self.exit_code is None:
                self._process.send_signal(signum)
                with trio.move_on_after(seconds):
                    await self.wait()
        if self.exit_code is None:
            self._process.kill()
            await self.wait()


FAST_STOP = ((signal.SIGINT, STOP_TIMEOUT), (signal.SIGQUIT, QUIT_TIMEOUT))
"""SIGTERM would wait for every client to leave."""


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str | Path],
    *,
    user: ServiceUser,
    log: LogFile,
    death: signal.Signals,
    stop: Sequence[tuple[signal.Signals, float]] = (),
) -> AsyncIterator[Child]:
    """Runs `command` as `user` for the length of the block; it is stopped and its last lines are read at the end.

    The kernel sends it `death` if we die. Raises DatabaseStartError if it cannot be started.
    """
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - the thread that forks must be one that lives as long as we do
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=ENVIRONMENT,
            umask=0o077,
            start_new_session=True,
            preexec_fn=die_with_parent(death),
            **user.popen_kwargs(),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DatabaseStartError(f"user {user.name} cannot run {command[0]}: {error}") from error
    assert process.stdout is not None
    with process.stdout as output:
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError as error:
            process.kill()
            process.wait()
            raise DatabaseStartError(f"this system cannot watch processes (pidfd_open: {error})") from error
        try:
            child = Child(process, pidfd)
            stream = trio.lowlevel.FdStream(os.dup(output.fileno()))
            async with stream, trio.open_nursery() as nursery:
                reading = trio.CancelScope(shield=True)
                nursery.start_soon(_pump, stream, log, reading)
                try:
                    yield child
                finally:
                    # Bounded by the steps: the database is never left without its owner.
                    with trio.CancelScope(shield=True):
                        await child.stop(*stop)
                    # The pipe ends when the last process that inherited it has ended.
                    reading.deadline = trio.current_time() + LOG_TAIL_TIMEOUT
        finally:
            os.close(pidfd)


async def _pump(stream: trio.lowlevel.FdStream, log: LogFile, scope: trio.CancelScope) -> None:
    """Reads until the pipe ends or `scope` does. Not cancelled with the rest: a full pipe would hold up the stop."""
    with scope:
        async for chunk in stream:
            log.write(bytes(chunk))


def is_ready(pid_file: Path, pid: int) -> bool:
    """Whether postmaster.pid says that the postmaster with this process id accepts connections.

    A leftover one would answer a connection as well: only the process id tells whose answer it is.
    """
    try:
        lines = pid_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


async def wait_ready(child: Child, pid_file: Path) -> bool:
    """True when the postmaster accepts connections, False when it has ended instead."""
    while child.exit_code is None:
        if is_ready(pid_file, child.pid):
            return True
        await trio.sleep(READY_POLL)
    return False
