"""The queue between everything that has something to say and the one writer of the stream (protocol-agent 1.6).

It holds encoded gRPC frames, so that the writer can hand over many messages at once. Under a lease it also holds what
was sent until the server has stored it, so that it can be sent again on the next stream. It knows neither jobs nor
sockets.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio
from google.protobuf.message import Message

from gocdnext.proto.agent_pb2 import AgentMessage, Mark

LIMIT = 1024 * 1024
"""Bytes that may wait. When as many are waiting, `room` blocks, and with it the reading of a job's output: a job
that prints faster than the server reads is slowed down, nothing is dropped."""
KEPT_LIMIT = 4 * 1024 * 1024
"""The same under a lease, where what is sent and not stored counts too: what jobs may print while there is no server."""
BATCH = 256 * 1024
"""Bytes handed to the writer at once."""

_pack_head = struct.Struct(">BI").pack


def frame(message: Message) -> bytes:
    """One message as it travels in a gRPC stream: no compression (0), four bytes of length, the message."""
    body = message.SerializeToString()
    return _pack_head(0, len(body)) + body


@dataclass(slots=True, eq=False)
class _Item:
    """Whole frames, who put them, and what to do when the server has them."""

    frames: bytes
    channel: Channel
    then: Callable[[], None] | None = None


class Outbox:
    """Frames in order. A caller waits for `room` and then puts without any checkpoint between, so order is kept.

    Each caller may exceed the limit by what it puts at once, which the callers keep near the size of a pipe.
    """

    def __init__(self, limit: int = LIMIT, kept_limit: int = KEPT_LIMIT) -> None:
        self._limits = {False: limit, True: kept_limit}
        self._keeps = False
        self._urgent: deque[bytes] = deque()
        self._items: deque[_Item] = deque()
        self._sent: deque[tuple[int, list[_Item]]] = deque()
        self._number = 0
        self._size = 0
        self._closed = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()
        self.batches = False
        """Lines may go out as LogBatch."""

    # What those do who have something to say.

    async def room(self) -> None:
        """Waits until something may be put."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._size >= self._limits[self._keeps] and not self._closed:
            await self._writers.park()

    def channel(self) -> Channel:
        """A way in for one job."""
        return Channel(self)

    def put_first(self, frames: bytes) -> None:
        """Puts frames before all others, also after `close`: heartbeats and the like, which must not wait behind a
        flood of lines. They are for this stream only."""
        self._urgent.append(frames)
        self._readers.unpark_all()

    def put(self, item: _Item) -> None:
        """Appends what a channel has. After `close` it goes nowhere: nobody is left to read it."""
        if self._closed or not item.frames:
            return
        self._items.append(item)
        self._size += len(item.frames)
        self._readers.unpark_all()
        if item.then is not None and not self._keeps:
            item.then()

    def drop(self, channel: Channel) -> None:
        """Everything of this channel is gone, sent or not."""
        self._items = deque(item for item in self._items if item.channel is not channel)
        for _, items in self._sent:
            items[:] = [item for item in items if item.channel is not channel]
        self._measure()

    # What the writer and the owner of the stream do.

    async def take(self) -> bytes | None:
        """The next frames, about BATCH bytes at most; waits for some. None after `close` when all are taken."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._items and not self._urgent:
            if self._closed:
                return None
            await self._readers.park()
        frames = list(self._urgent)
        self._urgent.clear()
        taken: list[_Item] = []
        size = 0
        while self._items and (not taken or size + len(self._items[0].frames) <= BATCH):
            taken.append(self._items.popleft())
            size += len(taken[-1].frames)
        frames += [item.frames for item in taken]
        if taken and self._keeps:
            self._number += 1
            self._sent.append((self._number, taken))
            frames.append(frame(AgentMessage(mark=Mark(number=self._number))))
        else:
            self._shrink(size)
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def stored(self, number: int) -> None:
        """The server has everything up to this mark."""
        size = 0
        while self._sent and self._sent[0][0] <= number:
            for item in self._sent.popleft()[1]:
                size += len(item.frames)
                if item.then is not None:
                    item.then()
        self._shrink(size)

    def rewind(self) -> None:
        """The stream broke: what the server is not known to have comes out again, in order, before all else."""
        self._urgent.clear()
        self._items.extendleft(item for _, items in reversed(self._sent) for item in reversed(items))
        self._sent.clear()

    def begin(self, *, keeps: bool, batches: bool) -> None:
        """Begins anew, with nothing in it, for a server that does or does not say what it has stored."""
        self._urgent.clear()
        self._items.clear()
        self._sent.clear()
        self._keeps, self.batches = keeps, batches
        self._measure()

    def close(self) -> None:
        """What is in stays for the writer; nothing more comes in."""
        self._closed = True
        self._readers.unpark_all()
        self._writers.unpark_all()

    @property
    def empty(self) -> bool:
        """Whether nothing waits that would be missed: nothing to send, and nothing sent that may be lost."""
        return not self._items and not self._sent

    def _measure(self) -> None:
        self._size = sum(len(item.frames) for item in self._items)
        self._size += sum(len(item.frames) for _, items in self._sent for item in items)
        self._shrink(0)

    def _shrink(self, size: int) -> None:
        self._size -= size
        if self._size < self._limits[self._keeps]:
            self._writers.unpark_all()


class Channel:
    """One job's way into the outbox. Closed, it takes back everything that is in there and lets nothing more in: what
    a job says that is not the agent's any more must not be taken for the word of its next attempt."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._closed = False

    @property
    def batches(self) -> bool:
        """Lines may go out as LogBatch."""
        return self._outbox.batches

    async def room(self) -> None:
        """Waits until something may be put."""
        if not self._closed:
            await self._outbox.room()

    def put(self, frames: bytes, then: Callable[[], None] | None = None) -> None:
        """Appends one or more whole frames. `then` is called when the server has stored them; where it does not say
        so, at once."""
        if not self._closed:
            self._outbox.put(_Item(frames, self, then))

    def close(self) -> None:
        """Nothing of this job goes out any more."""
        if not self._closed:
            self._closed = True
            self._outbox.drop(self)
