"""Works that come at the same time share a transaction: a crowd of pushes costs one commit, not one each.

One transaction at a time, under the lock it is made with. What a work does is up to it; knows nothing of runs but that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import trio

from gocdnext.db.pool import Connection, DatabaseUnavailableError
from gocdnext.runs.creation import CreatedRun, NewRun

T = TypeVar("T")
Create = Callable[[NewRun], Awaitable[CreatedRun]]
"""Makes a run inside the transaction it was handed out for. Raises NotFoundError, UnprocessableError."""
Work = Callable[[Connection, Create], Awaitable[object]]
MAX_TOGETHER = 16
"""Works of one transaction: what one of them holds, such as its pipeline, is held until all are done."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a work returned, and what is left to do for it after the commit."""

    result: object
    settled: Sequence[Any]


@dataclass(eq=False, slots=True)
class _Waiting:
    work: Work
    kind: Hashable
    made: Made | None = None
    error: Exception | None = None

    @property
    def over(self) -> bool:
        return self.made is not None or self.error is not None


class Crowd:
    """Works that wait for their turn. Trio side."""

    def __init__(
        self,
        turn: trio.Lock,
        together: Callable[[Sequence[Work]], Awaitable[list[Made]]],
        finish: Callable[[Sequence[Any]], Awaitable[None]],
    ) -> None:
        """`together` does works in one transaction, or raises and has done none of them; `finish` is called by the caller
        of each work, outside the turn."""
        self._turn = turn
        self._together = together
        self._finish = finish
        self._waiting: list[_Waiting] = []

    async def run(self, work: Callable[[Connection, Create], Awaitable[T]], kind: Hashable) -> T:
        """The result of one work. Those of the same `kind` may share a transaction, unless it is None: they must lock the
        same things in the same order. Raises what the work raises, and DatabaseUnavailableError."""
        mine = _Waiting(work, kind)
        self._waiting.append(mine)
        try:
            async with self._turn:
                if not mine.over:
                    # Short: a transaction. A caller that goes away in the middle of its commit must not leave assignments
                    # behind that are stored and were never sent; and others wait for this as well.
                    with trio.CancelScope(shield=True):
                        await self._do(self._batch(mine))
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
        if mine.error is not None:
            raise mine.error
        assert mine.made is not None
        await self._finish(mine.made.settled)
        return cast("T", mine.made.result)

    def _batch(self, first: _Waiting) -> list[_Waiting]:
        """A work and those that may share its transaction, in the order in which they came; they wait no longer."""
        alike = [one for one in self._waiting if one is not first and first.kind is not None and one.kind == first.kind]
        batch = [first, *alike[: MAX_TOGETHER - 1]]
        self._waiting = [one for one in self._waiting if one not in batch]
        return batch

    async def _do(self, batch: Sequence[_Waiting]) -> None:
        if len(batch) > 1:
            try:
                made = await self._together([one.work for one in batch])
            except DatabaseUnavailableError as error:
                for one in batch:
                    one.error = error
                return
            except Exception:
                # One of them; which one is seen when each is done alone.
                pass
            else:
                for one, its in zip(batch, made, strict=True):
                    one.made = its
                return
        for one in batch:
            try:
                (one.made,) = await self._together([one.work])
            except Exception as error:
                # Its caller's, who raises it.
                one.error = error
