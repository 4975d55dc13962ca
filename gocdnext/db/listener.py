"""LISTEN on a connection of its own, and calls for what is heard. Never silently deaf.

Notifications are hints: whoever acts on them can find the same by scanning. So when the connection breaks, or more
arrives than the buffer holds, `on_gap` is called after listening works again, and its owner scans. Nothing here
knows what a channel means.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import structlog
import trio
import triopg
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from gocdnext.db import queries
from gocdnext.db.errors import DRIVER_ERRORS

sql = queries.load("cluster")
log = structlog.get_logger(__name__)

BUFFER = 1024
"""Notifications that may wait for their callback; when it is full they are dropped and `on_gap` is called."""
CONNECT_TIMEOUT = 10.0
COMMAND_TIMEOUT = 10.0
PING_INTERVAL = 30.0
"""Seconds between two round trips that tell a silent connection from a dead one (a firewall, a stopped machine)."""
FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 10.0


class _LostError(Exception):
    """The connection ended."""


_RETRIED: tuple[type[Exception], ...] = (_LostError, *DRIVER_ERRORS)


async def run(
    connect: Mapping[str, Any],
    channels: Mapping[str, Callable[[str], None]],
    on_gap: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Calls `channels[name](payload)` for each notification until cancelled; `connect` is what asyncpg.connect takes.

    `started` means that every channel is being listened to. A first connection that fails raises what asyncpg raises;
    later ones are tried again for ever, with back-off, and `on_gap` is called once each time listening works again.
    The callbacks must not block; what they raise ends the listener.
    """
    listener = _Listener(connect, channels, on_gap, task_status)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(_RETRIED),
        stop=listener.never_started,
        wait=listener.wait,
        before_sleep=_tell,
        sleep=trio.sleep,
        reraise=True,
    )
    await retrying(listener.listen)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0
    log.warning("listener_lost", error=str(error) or type(error).__name__, again_in=round(wait, 3))


class _Listener:
    """What outlives a connection: whether there was one, and how many attempts failed since."""

    def __init__(
        self,
        connect: Mapping[str, Any],
        channels: Mapping[str, Callable[[str], None]],
        on_gap: Callable[[], None],
        task_status: trio.TaskStatus[None],
    ) -> None:
        self._connect = {"timeout": CONNECT_TIMEOUT, "command_timeout": COMMAND_TIMEOUT, **connect}
        self._channels = channels
        self._on_gap = on_gap
        self._task_status = task_status
        self._started = False
        self._failures = 0
        self._backoff = wait_exponential_jitter(multiplier=FIRST_BACKOFF, max=LONGEST_BACKOFF, jitter=FIRST_BACKOFF)

    def never_started(self, _state: RetryCallState) -> bool:
        """tenacity's `stop`: a first connection that fails is the caller's business."""
        return not self._started

    def wait(self, state: RetryCallState) -> float:
        """tenacity's `wait`: grows with the failures since listening last worked."""
        self._failures += 1
        state.attempt_number = self._failures
        return self._backoff(state)

    async def listen(self) -> None:
        """One connection, from its start to its loss, which raises one of _RETRIED."""
        async with triopg.connect(**self._connect) as conn:
            lost = trio.Event()
            conn.add_termination_listener(lambda _conn: lost.set())
            failure: Exception | None = None
            async with contextlib.AsyncExitStack() as stack:
                heard = []
                try:
                    for channel, callback in self._channels.items():
                        source = await stack.enter_async_context(conn.listen(channel, max_buffer_size=BUFFER))
                        heard.append((source, callback))
                    self._works()
                    failure = await self._watch(conn, lost, heard)
                finally:
                    # Before anything is unwound: on an aborted connection neither UNLISTEN nor a farewell can hang.
                    conn.terminate()
            raise failure

    def _works(self) -> None:
        self._failures = 0
        if self._started:
            log.info("listener_again")
            self._on_gap()
        else:
            self._started = True
            self._task_status.started()

    async def _watch(
        self, conn: Any, lost: trio.Event, heard: list[tuple[trio.MemoryReceiveChannel[Any], Callable[[str], None]]]
    ) -> Exception:
        """Passes on what is heard until the connection is lost; returns why."""
        failure: Exception = _LostError("the connection was closed")
        async with trio.open_nursery() as nursery:
            for source, callback in heard:
                nursery.start_soon(pass_on, source, callback, self._on_gap)
            while not lost.is_set():
                with trio.move_on_after(PING_INTERVAL):
                    await lost.wait()
                    break
                try:
                    await conn.fetchval(sql.ping)
                except _RETRIED as error:
                    failure = error
                    break
            nursery.cancel_scope.cancel()
        return failure


async def pass_on(
    source: trio.MemoryReceiveChannel[Any], callback: Callable[[str], None], on_gap: Callable[[], None]
) -> None:
    """Calls `callback` for what comes out of triopg's buffer, and `on_gap` where it dropped something."""
    async for payload in source:
        if payload is triopg.NOTIFY_OVERFLOW:
            log.warning("notifications_dropped", buffer=BUFFER)
            on_gap()
        else:
            callback(payload)
