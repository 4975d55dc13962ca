"""The agent process beside the server (`serve --local-agent`): started, watched, started again, stopped.

A process of its own, so that a job can never take the server's memory or descriptors with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import structlog
import trio

from gocdnext.config import Address, format_address

_log = structlog.get_logger("local_agent")
STOP_WITHIN = 2.0
"""Seconds between SIGTERM and SIGKILL: its jobs are cancelled at once and repeated at the next start."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
_PR_SET_PDEATHSIG = 1


async def run(grpc_addr: Address, token: str, work_root: Path) -> None:
    """Keeps one agent running until cancelled. It connects to `grpc_addr` and registers with `token`."""
    host, port = grpc_addr
    environment = os.environ | {
        "GOCDNEXT_SERVER_ADDR": format_address(("127.0.0.1" if host == "0.0.0.0" else host, port)),
        "GOCDNEXT_AGENT_NAME": os.environ.get("GOCDNEXT_AGENT_NAME") or "local",
        "GOCDNEXT_AGENT_TOKEN": token,
        "GOCDNEXT_AGENT_CAPACITY": os.environ.get("GOCDNEXT_AGENT_CAPACITY") or str(os.cpu_count() or 1),
        "GOCDNEXT_WORKSPACE_ROOT": os.environ.get("GOCDNEXT_WORKSPACE_ROOT") or str(work_root),
        "GOCDNEXT_DRAIN_BUDGET": "0s",
    }
    environment.pop("NOTIFY_SOCKET", None)
    pause = FIRST_PAUSE
    while True:
        started = trio.current_time()
        code = await _one(environment)
        pause = FIRST_PAUSE if trio.current_time() - started > LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
        _log.warning("local agent ended, starting it again", exit_code=code, pause_seconds=pause)
        await trio.sleep(pause)


async def _one(environment: dict[str, str]) -> int:
    # Popen here, not trio.open_process: the parent-death signal is tied to the thread that forks, and trio forks in a
    # worker thread that ends after some idle seconds.
    process = subprocess.Popen(  # noqa: ASYNC220
        _command(), env=environment, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent
    )
    pidfd = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(pidfd)
        return process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            # Bounded by STOP_WITHIN: a stopping server must not leave an agent behind.
            with trio.CancelScope(shield=True), trio.move_on_after(STOP_WITHIN):
                await trio.lowlevel.wait_readable(pidfd)
            process.kill()
            process.wait()
        os.close(pidfd)


def _command() -> list[str]:
    program = sys.argv[0]
    if zipfile.is_zipfile(program):
        return [sys.executable, program, "agent"]
    return [sys.executable, "-m", "gocdnext.cli", "agent"]


_LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
