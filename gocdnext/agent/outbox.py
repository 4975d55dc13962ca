"""The queue between everything that has something to say and the one writer of the stream (protocol-agent 1.6).

It holds encoded gRPC frames, so that the writer can hand over many messages at once. It knows neither jobs nor sockets.
"""

from __future__ import annotations

import struct
from collections import deque

import trio
from google.protobuf.message import Message

LIMIT = 1024 * 1024
"""Bytes that may wait. When as many are waiting, `room` blocks, and with it the reading of a job's output: a job
that prints faster than the server reads is slowed down, nothing is dropped."""
BATCH = 256 * 1024
"""Bytes handed to the writer at once."""

_pack_head = struct.Struct(">BI").pack


def frame(message: Message) -> bytes:
    """One message as it travels in a gRPC stream: no compression (0), four bytes of length, the message."""
    body = message.SerializeToString()
    return _pack_head(0, len(body)) + body


class Outbox:
    """Frames in order. A caller waits for `room` and then puts without any checkpoint between, so order is kept.

    Each caller may exceed LIMIT by what it puts at once, which the callers keep near the size of a pipe.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._items: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    async def room(self) -> None:
        """Waits until something may be put."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._size >= self._limit and not self._closed:
            await self._writers.park()

    def put(self, frames: bytes) -> None:
        """Appends one or more whole frames. After `close` they go nowhere: nobody is left to read them."""
        self._add(frames, first=False)

    def put_first(self, frames: bytes) -> None:
        """Puts frames before all others: heartbeats and the like, which must not wait behind a flood of lines."""
        self._add(frames, first=True)

    def close(self) -> None:
        """What is in stays for the writer; nothing more comes in."""
        self._closed = True
        self._readers.unpark_all()
        self._writers.unpark_all()

    async def take(self) -> bytes | None:
        """The next frames, about BATCH bytes at most; waits for some. None after `close` when all are taken."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._items:
            if self._closed:
                return None
            await self._readers.park()
        taken: list[bytes] = []
        size = 0
        while self._items and (not taken or size + len(self._items[0]) <= BATCH):
            taken.append(self._items.popleft())
            size += len(taken[-1])
        self._size -= size
        if self._size < self._limit:
            self._writers.unpark_all()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _add(self, frames: bytes, *, first: bool) -> None:
        if self._closed or not frames:
            return
        if first:
            self._items.appendleft(frames)
        else:
            self._items.append(frames)
        self._size += len(frames)
        self._readers.unpark_all()
