"""The request class: a body is bounded while it arrives, and what comes after an early answer is thrown away.

An upload of a blob has no such bound: it is read while it arrives, and its sender waits when the reader does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers.request import TrioBody
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from gocdnext.blobs.links import PATH

MAX_BODY = 5 * 1024 * 1024
"""Bytes of any request body (contract-runs 2.4)."""
BODY_TIMEOUT = 30
"""Seconds for a whole body to arrive once a route reads it."""
_LINGER = 2.0
"""Seconds that an early answer waits for the rest of its request."""
PIECE = 1024 * 1024
"""Bytes of an upload that are gathered for its reader, who does expensive things with each piece."""
BACKLOG = 4 * PIECE
"""Bytes of an upload that wait for a busy reader; then its sender has to wait."""
PIECE_TIMEOUT = 60.0
"""Seconds for one more piece of an upload: a sender that is slower than 17 KiB/s has given up."""
UPLOAD_TIMEOUT = 1800.0
"""Seconds for a whole upload, as agents have for it (protocol-agent 1.4)."""


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

    async def room(self) -> None:
        """Waits until more may arrive: at once, the bound is elsewhere."""


class StreamedBody(BoundedBody):
    """A body that is read once, piece by piece, while it arrives: `async for piece in body`. It never is in memory whole.

    Raises RequestTimeout (408) in its reader when it comes too slowly.
    """

    def __init__(self) -> None:
        super().__init__(None, None)
        self._unwanted = False
        self._taken = trio.Event()
        self._gathered = trio.Event()
        self._deadline = trio.current_time() + UPLOAD_TIMEOUT

    def append(self, data: bytes) -> None:
        """Takes a piece that arrived, until nobody wants more."""
        if self._unwanted:
            return
        self._data.extend(data)
        if len(self._data) >= PIECE:
            self._gathered.set()

    def set_complete(self) -> None:
        """The last piece has arrived."""
        super().set_complete()
        self._gathered.set()

    async def room(self) -> None:
        """Waits until the reader has taken what is there, if that is much."""
        while len(self._data) >= BACKLOG:
            self._taken = trio.Event()
            await self._taken.wait()

    async def __anext__(self) -> bytearray:  # type: ignore[override]
        """At least PIECE bytes, or the last ones."""
        with trio.move_on_at(min(trio.current_time() + PIECE_TIMEOUT, self._deadline)) as patience:
            await self._gathered.wait()
        if patience.cancelled_caught:
            raise RequestTimeout
        data, self._data = self._data, bytearray()
        self._taken.set()
        if not self._ended.is_set():
            self._gathered = trio.Event()
        elif not data:
            raise StopAsyncIteration
        return data

    async def let_it_end(self) -> None:
        """As above; what still comes is thrown away."""
        self._unwanted = True
        self._data.clear()
        self._taken.set()
        await super().let_it_end()


class BoundedRequest(TrioRequest):
    """A request with such a body."""

    body_class = BoundedBody
    body: BoundedBody


def is_streamed(scope: Mapping[str, Any]) -> bool:
    """Whether the body of this request is an upload. Asked before any route is: the first bytes may be here by then."""
    return bool(scope["method"] == "PUT" and scope["path"].startswith(PATH))
