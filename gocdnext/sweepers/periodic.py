"""The loop of every sweeper: wait, do one pass, say what it did; an absent database or disk is waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from gocdnext.db.pool import DatabaseUnavailableError

_log = structlog.get_logger("sweeper")


async def every(seconds: float, name: str, sweep: Callable[[], Awaitable[int]], *, first: float | None = None) -> None:
    """Calls `sweep` every `seconds` until cancelled, the first time after `first` if that is said. It returns how many
    things it changed."""
    await trio.sleep(seconds if first is None else first)
    while True:
        await _once(name, sweep)
        await trio.sleep(seconds)


async def _once(name: str, sweep: Callable[[], Awaitable[int]]) -> None:
    try:
        changed = await sweep()
    except DatabaseUnavailableError as error:
        _log.warning("the database is away", sweeper=name, error=str(error))
    except OSError as error:
        _log.error("the disk does not do what it should", sweeper=name, error=str(error))
    else:
        if changed:
            _log.info("swept", sweeper=name, changed=changed)
