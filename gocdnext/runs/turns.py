"""Turns: one change of a run at a time in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import trio


class Turns:
    """One change of a run at a time in this process: two that decide on the same version would make one of them load
    the run again. What other processes do is kept apart by the run's lock and version."""

    def __init__(self) -> None:
        # Not locks: those belong to trio tasks, and some changes are made on the asyncio side of the same thread.
        self._turns: dict[UUID, trio.Semaphore] = {}

    @contextlib.asynccontextmanager
    async def of(self, run_id: UUID) -> AsyncIterator[None]:
        """The run's turn, in the order of asking."""
        turn = self._turns.setdefault(run_id, trio.Semaphore(1, max_value=1))
        await turn.acquire()
        try:
            yield
        finally:
            self._end(run_id, turn)

    @contextlib.contextmanager
    def if_free(self, run_id: UUID) -> Iterator[bool]:
        """The run's turn if nobody has it, without waiting and on either side; says whether it was given."""
        if run_id in self._turns:
            yield False
            return
        turn = self._turns[run_id] = trio.Semaphore(0, max_value=1)
        try:
            yield True
        finally:
            self._end(run_id, turn)

    def _end(self, run_id: UUID, turn: trio.Semaphore) -> None:
        turn.release()
        # Nobody waits for it: the next one makes a new one.
        if turn.value and self._turns.get(run_id) is turn:
            del self._turns[run_id]
