"""The agent as a process: settings, signals, exit codes (protocol-agent 3.1, 3.2). JSON logs on stdout."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

import structlog
import trio

import gocdnext
from gocdnext.agent.client import Client
from gocdnext.agent.config import AgentSettings, ConfigError
from gocdnext.agent.engines import open_engine
from gocdnext.agent.wire import RefusedError
from gocdnext.agent.workspace import WorkspaceError, open_root, remove_leftovers

_PR_SET_DUMPABLE = 4
EXIT_DONE, EXIT_FAILED, EXIT_KILLED = 0, 1, 130

_log = structlog.get_logger("gocdnext.agent")


async def run(settings: AgentSettings, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> int:
    """Serves until a signal ends it; returns the exit code. Ready when the first session with the server stands.

    The first SIGTERM or SIGINT drains, the second kills the jobs and returns 130. Raises ConfigError, WorkspaceError or
    RefusedError when the agent cannot work as it is configured.
    """
    engine = open_engine(settings)
    open_root(settings.workspace_root)
    removed = await trio.to_thread.run_sync(remove_leftovers, settings.workspace_root)
    if removed:
        _log.info("directories of jobs without an agent removed", jobs=removed)
    await engine.start()
    client = Client(settings, engine)
    code = EXIT_DONE
    refused: RefusedError | None = None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def obey() -> None:
                nonlocal code
                await anext(signals)
                client.drain()
                await anext(signals)
                code = EXIT_KILLED
                nursery.cancel_scope.cancel()

            nursery.start_soon(obey)
            try:
                code = EXIT_DONE if await client.run(task_status=task_status) else EXIT_FAILED
            except RefusedError as error:
                refused = error  # raised below: the nursery would wrap it
            nursery.cancel_scope.cancel()
    if refused is not None:
        raise refused
    return code


def main() -> int:
    """The `gocdnext agent` command: reads the environment and serves. Returns the exit code."""
    _configure_logging()
    _hide_from_jobs()
    try:
        settings = AgentSettings.from_env(os.environ)
        _log.info("agent starts", version=gocdnext.__version__, agent=settings.name, capacity=settings.capacity)
        return trio.run(run, settings)
    except (ConfigError, WorkspaceError, RefusedError) as error:
        print(f"gocdnext agent: {error}", file=sys.stderr)
        return EXIT_FAILED


def _hide_from_jobs() -> None:
    """Jobs run as the same user: without this they could read the token in /proc/<agent>/environ, or attach to the
    process. Also no core dumps. (Jobs of an agent that runs as root can do it all the same: do not run it as root.)"""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


def _configure_logging() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
