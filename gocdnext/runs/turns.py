"""Turns: one change of a run at a time in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

import trio


class Turns:
    """One change of a run at a time in this process: two that decide on the same version would make one of them load
    the run again. What other processes do is kept apart by the run's lock and version."""

    def __init__(self) -> None:
        self._locks: dict[UUID, trio.Lock] = {}

    @contextlib.asynccontextmanager
    async def of(self, run_id: UUID) -> AsyncIterator[None]:
        """The run's turn, in the order of asking."""
        lock = self._locks.setdefault(run_id, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            # Nobody holds it and nobody waits: the next one makes a new one.
            if not lock.locked() and self._locks.get(run_id) is lock:
                del self._locks[run_id]
