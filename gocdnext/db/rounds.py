"""Work that many ask for at the same time is done once for all of them, and nobody is given anything old.

Who asks while the work is under way has to see what was true when they asked, so they do not get the result of that
round: they share the next one. Under load a round serves many; alone, a caller does the work at once. Knows no SQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Round(Generic[T]):
    """One time that the work is done. Neither values nor an error: who did it was cancelled."""

    __slots__ = ("done", "error", "values")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.values: tuple[T, ...] = ()
        self.error: Exception | None = None


class Rounds(Generic[K, T]):
    """Rounds of work by key; at most one of a key is under way and at most one is being gathered."""

    def __init__(self) -> None:
        self._gathering: dict[K, _Round[T]] = {}
        self._under_way: dict[K, _Round[T]] = {}

    async def result(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives when it is begun after this call. Raises what it raised, in all who share the round."""
        while (gathering := self._gathering.get(key)) is not None:
            await gathering.done.wait()
            if gathering.values:
                return gathering.values[0]
            if gathering.error is not None:
                raise gathering.error
            # Who would have done it is gone: the first of those who waited does it.
        return await self._lead(key, work)

    async def _lead(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        mine = self._gathering[key] = _Round()
        try:
            if (before := self._under_way.get(key)) is not None:
                await before.done.wait()
            del self._gathering[key]
            self._under_way[key] = mine
            value = await work()
            mine.values = (value,)
            return value
        except Exception as error:
            mine.error = error
            raise
        finally:
            for rounds in (self._gathering, self._under_way):
                if rounds.get(key) is mine:
                    del rounds[key]
            mine.done.set()
