"""Something small of the database that this process keeps in memory: read at start, when somebody says that it has
changed, and every so often in case nobody said so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from gocdnext.db.pool import DatabaseUnavailableError

EVERY = 30.0
"""Seconds between two looks when nothing is heard."""
_LOG = structlog.get_logger(__name__)


class Refreshed:
    """Calls `refresh` at those times. `what` names it in the log."""

    def __init__(self, what: str, refresh: Callable[[], Awaitable[None]]) -> None:
        self._what = what
        self._refresh = refresh
        self._stale = trio.Event()

    def poke(self, _: str = "") -> None:
        """It has changed: look again soon. May be called from anywhere on the trio thread."""
        self._stale.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps up until cancelled; ready when it was read once. Only that first time raises DatabaseUnavailableError."""
        await self._refresh()
        task_status.started()
        while True:
            with trio.move_on_after(EVERY):
                await self._stale.wait()
            self._stale = trio.Event()
            try:
                await self._refresh()
            except DatabaseUnavailableError as error:
                _LOG.warning("what is remembered stays as it was", what=self._what, reason=str(error))
