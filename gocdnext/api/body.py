"""The request class: a body is bounded while it arrives, and what comes after an early answer is thrown away."""

from __future__ import annotations

import trio
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers.request import TrioBody
from werkzeug.exceptions import RequestEntityTooLarge

MAX_BODY = 5 * 1024 * 1024
"""Bytes of any request body (contract-runs 2.4)."""
BODY_TIMEOUT = 30
"""Seconds for a whole body to arrive once a route reads it."""
_LINGER = 2.0
"""Seconds that an early answer waits for the rest of its request."""


class BoundedBody(TrioBody):
    """A body that stops growing at the limit and knows when its last byte has come."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._ended = trio.Event()

    def append(self, data: bytes) -> None:
        """Takes a piece that arrived; nothing is kept of a body over the limit."""
        if self._must_raise is not None:
            return
        self._data.extend(data)
        if self._max_content_length is not None and len(self._data) > self._max_content_length:
            self._must_raise = RequestEntityTooLarge()
            self._data.clear()
            self._complete.set()
        self._has_data.set()

    def set_complete(self) -> None:
        """The last piece has arrived."""
        super().set_complete()
        self._ended.set()

    async def let_it_end(self) -> None:
        """Waits a moment for a body nobody read. A connection that is closed with bytes unread is reset, and the
        client may lose the answer with it."""
        if not self._ended.is_set():
            with trio.move_on_after(_LINGER):
                await self._ended.wait()


class BoundedRequest(TrioRequest):
    """A request with such a body."""

    body_class = BoundedBody
    body: BoundedBody
