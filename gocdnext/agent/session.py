"""One stream of a session: heartbeats, what the server says, what the outbox has (protocol-agent 1.6, 3.2).

It ends by a half-close that the server confirmed, or it is lost. What then becomes of the jobs, and connecting again, is
the client's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import structlog
import trio

from gocdnext.agent.outbox import Outbox, frame
from gocdnext.agent.wire import Wire, WireError
from gocdnext.agent.work import Work
from gocdnext.proto.agent_pb2 import AgentMessage, Draining, Heartbeat

HEARTBEAT = 30.0
"""Seconds between heartbeats when the server does not say."""
SILENCE = 3
"""Heartbeats without any word from the server after which the connection counts as dead."""
SETTLED = 30.0
"""Seconds after which a session that answers has stood. Two agents with one name throw each other out again and
again; they must not do so at full speed."""

_log = structlog.get_logger("gocdnext.agent")


class SessionLostError(Exception):
    """The stream is gone. `stood` says whether it had worked for a while, so that a quick return is in order."""

    def __init__(self, reason: str, *, stood: bool) -> None:
        super().__init__(reason)
        self.stood = stood


class Session:
    """Runs on an open stream until it is confirmed or lost.

    `answered` is called with the time at which a heartbeat was sent that the server has answered.
    """

    def __init__(
        self, wire: Wire, outbox: Outbox, work: Work, heartbeat_seconds: int, answered: Callable[[float], None]
    ) -> None:
        self._wire = wire
        self._outbox = outbox
        self._work = work
        self._interval = float(heartbeat_seconds) if heartbeat_seconds > 0 else HEARTBEAT
        self._answered = answered
        self._unanswered: deque[float] = deque()
        self._opened = trio.current_time()
        self._heard: float | None = None
        self._lost: str | None = None
        self._confirmed = False
        self._half_closed = False

    async def run(self) -> None:
        """Returns when the server has confirmed everything after a half-close. SessionLostError for any other end."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._heartbeat()
            if not self._work.accepting:
                self.say_draining()
            nursery.start_soon(self._guarded, self._send)
            nursery.start_soon(self._guarded, self._receive)
            nursery.start_soon(self._beat)
        if not self._confirmed:
            lived = (self._heard or self._opened) - self._opened
            raise SessionLostError(self._lost or "given up", stood=lived >= SETTLED)

    def say_draining(self) -> None:
        """Tells the server that this agent wants no more jobs."""
        self._outbox.put_first(frame(AgentMessage(draining=Draining())))

    def lose(self, reason: str) -> None:
        """Ends the stream from this side. The first reason counts."""
        if self._lost is None and not self._confirmed:
            self._lost = reason
        self._nursery.cancel_scope.cancel()

    async def _guarded(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Runs a loop that speaks to the server; when the wire breaks, the session is lost."""
        try:
            await loop()
        except WireError as error:
            self.lose(str(error))

    async def _send(self) -> None:
        while (frames := await self._outbox.take()) is not None:
            await self._wire.send(frames)
        await self._wire.half_close()
        self._half_closed = True

    async def _receive(self) -> None:
        while (message := await self._wire.receive()) is not None:
            self._heard = trio.current_time()
            kind = message.WhichOneof("kind")
            if kind == "assign":
                self._work.assign(message.assign)
            elif kind == "cancel":
                self._work.cancel(message.cancel)
            elif kind == "stored":
                self._outbox.stored(message.stored.number)
            elif kind == "pong" and self._unanswered:
                self._answered(self._unanswered.popleft())
        if not self._half_closed:
            self.lose("the server ended the session")
            return
        self._confirmed = True
        self._nursery.cancel_scope.cancel()

    async def _beat(self) -> None:
        """Heartbeats, and a look whether the server still answers them."""
        while True:
            await trio.sleep(self._interval)
            self._heartbeat()
            silent = trio.current_time() - (self._heard or self._opened)
            if silent > SILENCE * self._interval:
                self.lose(f"the server has not answered for {silent:.0f} s")

    def _heartbeat(self) -> None:
        heartbeat = Heartbeat(running_jobs=self._work.running)
        heartbeat.at.GetCurrentTime()
        self._outbox.put_first(frame(AgentMessage(heartbeat=heartbeat)))
        self._unanswered.append(trio.current_time())
