"""The loop of every sweeper: wait, do one pass, say what it did; an absent database is waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from gocdnext.db.pool import DatabaseUnavailableError

_log = structlog.get_logger("sweeper")


async def every(seconds: float, name: str, sweep: Callable[[], Awaitable[int]]) -> None:
    """Calls `sweep` every `seconds` until cancelled. It returns how many things it changed."""
    while True:
        await trio.sleep(seconds)
        try:
            changed = await sweep()
        except DatabaseUnavailableError as error:
            _log.warning("the database is away", sweeper=name, error=str(error))
            continue
        if changed:
            _log.info("swept", sweeper=name, changed=changed)
