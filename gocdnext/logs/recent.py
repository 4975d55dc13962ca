"""What was read lately, as much of it as a number of bytes allows: what was not asked for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Things by key. Only ever touched from one thread."""

    def __init__(self, room: int) -> None:
        """`room`: bytes of all things together; something larger than that is not kept, nor anything when it is 0."""
        self._room = room
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0

    def get(self, key: K) -> V | None:
        """What is kept; it counts as asked for."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keeps a thing of about `size` bytes in place of what had its key."""
        if (former := self._kept.pop(key, None)) is not None:
            self._size -= former[1]
        if size > self._room:
            return
        self._kept[key] = (value, size)
        self._size += size
        while self._size > self._room:
            _, (_, gone) = self._kept.popitem(last=False)
            self._size -= gone
