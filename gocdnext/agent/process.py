"""Runs one command in its own process group and reads what it prints. It decides nothing about jobs or logs.

Everything the command leaves in its group is killed when it ends, and all of it at once when the caller is cancelled.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import math
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

import trio

READ_SIZE = 64 * 1024
PIPE_SIZE = 256 * 1024
"""Capacity asked for a pipe: fewer switches between a printing job and the agent."""
LINGER = 2.0
"""Seconds to wait, after the command has ended, for a pipe that some escaped background process still holds open."""
VANISH = 1.0
"""Seconds to wait for the rest of a killed group to be gone, so that it writes into no directory being removed."""
REAP = 10.0
"""Seconds to wait for a killed process to be gone (it may hang in the kernel)."""

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl
_signal = signal.SIGKILL.value


class Sink(Protocol):
    """Takes what comes out of a pipe; may wait, which stops the reading."""

    async def feed(self, chunk: bytes) -> None: ...

    async def finish(self) -> None: ...


async def run_process(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdout: Sink,
    stderr: Sink,
    stdin: int = subprocess.DEVNULL,
    pass_fds: Collection[int] = (),
) -> int:
    """Runs `argv` and returns its exit code: negative for a signal (protocol-agent 3.7).

    `stdin` is the descriptor of a file that it reads, /dev/null unless said otherwise; `pass_fds` are descriptors that
    it inherits under their numbers. Raises OSError or ValueError when it cannot be started. Cancelled: kills the process
    group with SIGKILL at once.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    process = _start(argv, cwd, env, stdin, pass_fds)
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # e.g. too many open files
        _kill_group(process)
        process.wait()
        raise
    ending = _Ending()
    try:
        async with trio.open_nursery() as readers:
            assert process.stdout is not None
            assert process.stderr is not None
            readers.start_soon(_pump, process.stdout.fileno(), stdout, ending)
            readers.start_soon(_pump, process.stderr.fileno(), stderr, ending)
            await trio.lowlevel.wait_readable(pidfd)
            _kill_group(process)
            ending.begin()
        return process.wait()
    finally:
        await _end(process, pidfd)


def _start(
    argv: Sequence[str], cwd: str, env: Mapping[str, str], stdin: int, pass_fds: Collection[int]
) -> subprocess.Popen[bytes]:
    """Starts the command from this very thread: the kernel sends the death signal when the thread that forked ends,
    so a worker thread (trio.open_process) would kill the job when it idles away."""
    parent = os.getpid()

    def die_with_agent() -> None:
        _prctl(_PR_SET_PDEATHSIG, _signal)
        if os.getppid() != parent:
            os._exit(1)

    process = subprocess.Popen(
        list(argv),
        cwd=cwd,
        env=dict(env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        preexec_fn=die_with_agent,
        pass_fds=tuple(pass_fds),
    )
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
        with contextlib.suppress(OSError):  # the kernel bounds the sum of an unprivileged user's pipes
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return process


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills all of the group. Only while the leader is not reaped: until then its number cannot belong to another."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # nobody is left in it
            os.killpg(process.pid, signal.SIGKILL)


async def _end(process: subprocess.Popen[bytes], pidfd: int) -> None:
    """Kills, reaps and closes, whatever way the command came to its end."""
    _kill_group(process)
    if process.returncode is None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REAP):
            await trio.lowlevel.wait_readable(pidfd)
            process.wait()
    os.close(pidfd)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    with trio.CancelScope(shield=True, deadline=trio.current_time() + VANISH):
        # Nothing tells when a process that is not a child is gone.
        while group_lives(process.pid):  # noqa: ASYNC110
            await trio.sleep(0.005)


def group_lives(group: int) -> bool:
    """Whether a process of a group runs. The dead that nobody has buried yet do nothing any more: who was left to a
    slow init, or to one that does not do it at all, holds nobody up."""
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return any(_runs_in(group, name) for name in os.listdir("/proc") if name.isdigit())


def _runs_in(group: int, process: str) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
    except OSError:  # it is gone
        return False
    return int(its_group) == group and state not in {b"Z", b"X"}


class _Ending:
    """When the readers are to give up: never while the command runs, LINGER seconds after it has ended."""

    def __init__(self) -> None:
        self.deadline = math.inf
        self._scopes: set[trio.CancelScope] = set()

    def begin(self) -> None:
        self.deadline = trio.current_time() + LINGER
        for scope in self._scopes:
            scope.deadline = self.deadline

    async def wait(self, ready: Callable[[int], Awaitable[None]], fd: int) -> bool:
        """Whether the pipe became readable before the deadline."""
        with trio.CancelScope(deadline=self.deadline) as scope:
            self._scopes.add(scope)
            try:
                await ready(fd)
            finally:
                self._scopes.discard(scope)
        return not scope.cancelled_caught


async def _pump(fd: int, sink: Sink, ending: _Ending) -> None:
    """Feeds the sink until the pipe ends. The deadline bounds only waiting for an empty pipe, never a slow sink, so
    nothing is lost of what the command itself printed."""
    beyond = 0  # bytes read after the deadline: a pipe holds no more of the command's own
    while beyond <= PIPE_SIZE:
        try:
            chunk = os.read(fd, READ_SIZE)
        except BlockingIOError:
            if not await ending.wait(trio.lowlevel.wait_readable, fd):
                break
            continue
        if not chunk:
            break
        if trio.current_time() > ending.deadline:
            beyond += len(chunk)
        await sink.feed(chunk)
        await trio.lowlevel.checkpoint()  # a pipe that is never empty must not keep the others from their turn
    await sink.finish()
