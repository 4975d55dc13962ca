"""The agent as a process: settings, signals, exit codes (protocol-agent 3.1, 3.2). JSON logs on stdout."""

from __future__ import annotations

import ctypes
import dataclasses
import math
import os
import signal
import sys
from functools import partial

import structlog
import trio

import gocdnext
from gocdnext.agent.activity import Activity
from gocdnext.agent.client import Client
from gocdnext.agent.config import AgentSettings, ConfigError
from gocdnext.agent.engines import open_engine
from gocdnext.agent.wire import RefusedError
from gocdnext.agent.workspace import WorkspaceError, open_root, remove_leftovers

_PR_SET_DUMPABLE = 4
EXIT_DONE, EXIT_FAILED, EXIT_NO_JOB, EXIT_KILLED = 0, 1, 3, 130

_log = structlog.get_logger("gocdnext.agent")


async def run(
    settings: AgentSettings,
    *,
    wait: float = math.inf,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> int:
    """Serves until a signal ends it; returns the exit code. Ready when the first session with the server stands.
    `wait` is how many seconds an agent for one job waits for it.

    The first SIGTERM or SIGINT drains, the second kills the jobs and returns 130. Raises ConfigError, WorkspaceError or
    RefusedError when the agent cannot work as it is configured.
    """
    engine = open_engine(settings)
    open_root(settings.workspace_root)
    removed = await trio.to_thread.run_sync(remove_leftovers, settings.workspace_root)
    if removed:
        _log.info("directories of jobs without an agent removed", jobs=removed)
    await engine.start()
    activity = Activity()
    client = Client(settings, engine, activity)
    code = EXIT_DONE
    refused: RefusedError | ConfigError | None = None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def obey() -> None:
                nonlocal code
                await anext(signals)
                client.drain()
                await anext(signals)
                code = EXIT_KILLED
                nursery.cancel_scope.cancel()

            async def give_up_waiting() -> None:
                with trio.move_on_after(wait):
                    await activity.first_taken.wait()
                    return
                client.drain()

            nursery.start_soon(obey)
            if settings.once:
                nursery.start_soon(give_up_waiting)
            try:
                if settings.metrics_addr is not None:
                    await _start_metrics(nursery, settings.metrics_addr, activity)
                code = EXIT_DONE if await client.run(task_status=task_status) else EXIT_FAILED
                if settings.once and code == EXIT_DONE:
                    code = _of_one_job(activity)
            except (RefusedError, ConfigError) as error:
                refused = error  # raised below: the nursery would wrap it
            nursery.cancel_scope.cancel()
    if refused is not None:
        raise refused
    return code


def _of_one_job(activity: Activity) -> int:
    """The exit code of an agent for one job: a job that was stopped without a result has failed here."""
    if not activity.taken:
        return EXIT_NO_JOB
    return EXIT_DONE if activity.succeeded else EXIT_FAILED


async def _start_metrics(nursery: trio.Nursery, address: tuple[str, int], activity: Activity) -> None:
    """Imported only where it is wanted: it costs memory."""
    from gocdnext.agent.metrics import serve

    try:
        port = await nursery.start(serve, address, activity)
    except OSError as error:
        raise ConfigError(
            f"GOCDNEXT_METRICS_ADDR: cannot listen at {address[0]}:{address[1]}: {error.strerror or error}"
        ) from error
    _log.info("metrics", address=f"{address[0]}:{port}")


def main(*, once: bool = False, wait: float = math.inf) -> int:
    """The `gocdnext agent` command: reads the environment and serves. Returns the exit code. `once`: one job, for which
    it waits `wait` seconds, and then 0 when it succeeded, 1 when it failed, 3 when none came."""
    _configure_logging()
    _hide_from_jobs()
    try:
        settings = AgentSettings.from_env(os.environ)
        if once:
            settings = dataclasses.replace(settings, once=True, capacity=1)
        _log.info("agent starts", version=gocdnext.__version__, agent=settings.name, capacity=settings.capacity)
        return trio.run(partial(run, settings, wait=wait))
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
