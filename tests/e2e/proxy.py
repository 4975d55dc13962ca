"""A TCP proxy between agents and their server, for tests that break the network between them."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence

import trio

CHUNK = 64 * 1024


class Proxy:
    """Forwards connections to a port of this machine until it is cut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.connections = 0
        self._open: set[trio.SocketStream] = set()
        self._whole = True
        self._flows = trio.Event()
        self._flows.set()

    def cut(self) -> None:
        """Ends every connection and refuses new ones."""
        self._whole = False
        for stream in list(self._open):
            # With a reset: what is under way is lost.
            with contextlib.suppress(OSError):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.socket.close()

    def hold(self) -> None:
        """Nothing gets through any more, in either direction, and nobody is told."""
        self._flows = trio.Event()

    def mend(self) -> None:
        """The network is whole again."""
        self._whole = True
        self._flows.set()

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        """Until cancelled; the started value is the port."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started(self.port)
        await trio.serve_listeners(self._connection, listeners)

    async def _connection(self, near: trio.SocketStream) -> None:
        if not self._whole:
            await trio.aclose_forcefully(near)
            return
        self.connections += 1
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            far = await self._dial()
            self._open |= {near, far}
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._forward, near, far, nursery)
                    nursery.start_soon(self._forward, far, near, nursery)
            finally:
                self._open -= {near, far}
                # At once: a checkpoint between the two would leave the second open when the test ends.
                near.socket.close()
                far.socket.close()

    async def _dial(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.target)

    async def _forward(self, source: trio.SocketStream, target: trio.SocketStream, nursery: trio.Nursery) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(CHUNK):
                await self._flows.wait()
                await target.send_all(data)
        nursery.cancel_scope.cancel()


class RoundRobin(Proxy):
    """Each connection goes to the next of several ports; one that refuses is passed over."""

    def __init__(self, targets: Sequence[int]) -> None:
        super().__init__(targets[0])
        self._targets = deque(targets)

    async def _dial(self) -> trio.SocketStream:
        for attempts_left in reversed(range(len(self._targets))):
            self._targets.rotate(-1)
            try:
                return await trio.open_tcp_stream("127.0.0.1", self._targets[0])
            except OSError:
                if not attempts_left:
                    raise
        raise AssertionError("there is a target")


@contextlib.asynccontextmanager
async def proxy_to(target: int) -> AsyncIterator[Proxy]:
    """A proxy in front of a port, as long as the block lasts."""
    proxy = Proxy(target)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()
