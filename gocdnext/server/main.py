"""The process of a server: signals, exit code, and what a failed start says."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import structlog
import trio
import trio_asyncio

from gocdnext import config, journal, systemd, tracing
from gocdnext.config import Settings
from gocdnext.db import statedir
from gocdnext.db.errors import DatabaseStartError
from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.errors import DomainError
from gocdnext.server import lifetimes
from gocdnext.server.lifetimes import Stop

_log = structlog.get_logger("server")
STOPPED, FAILED = 0, 1


def main(state_dir: Path | None, *, with_local_agent: bool) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code. Problems of the start are one sentence in the log."""
    journal.configure("info")
    # Keys and tokens are in memory here: nothing of it is to be left on a disk. Children inherit it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    code = STOPPED
    try:
        settings = config.load(state_dir=state_dir)
        journal.configure(settings.log_level)
        end_traces = tracing.start(os.environ, offline=settings.outbound.offline)
        try:
            trio.run(_main, settings, with_local_agent)
        finally:
            end_traces()
    except* (DatabaseStartError, DatabaseUnavailableError, DomainError, OSError) as group:
        for error in _leaves(group):
            _log.error("the server cannot go on", error=str(error))
        code = FAILED
    return code


async def _main(settings: Settings, with_local_agent: bool) -> None:
    async with trio.open_nursery() as nursery:
        stop = Stop(nursery.cancel_scope)
        # Before anything is started: a signal in the start-up gap must not leave a database behind.
        await nursery.start(_watch_signals, stop)
        try:
            with statedir.open_state(settings.state_dir) as state:
                async with trio_asyncio.open_loop():
                    await lifetimes.serve(settings, state, stop, with_local_agent)
        except* DatabaseUnavailableError:
            # Of a start that was called off: the database went first, and whoever spoke with it heard that.
            if not stop.asked.is_set():
                raise
        nursery.cancel_scope.cancel()


async def _watch_signals(stop: Stop, *, task_status: trio.TaskStatus[None]) -> None:
    """The first signal asks for a stop, the second one cancels whatever is still going on."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            _log.info("stopping", signal=signal.Signals(number).name)
            systemd.notify("STOPPING=1")
            stop.ask()


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
