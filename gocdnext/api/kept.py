"""Answers that are read much more often than they change: rendered once, and kept for as long as nothing has changed.

Whether something has changed, PostgreSQL says in one short statement: as long as the same transactions are visible as
before the answer was read, it would be the same again, whichever server wrote. So nothing has to be told about a
change, and no answer is older than the request for it. Only what follows from the database alone is kept; `Fresh` says
of the rest that it does not. Where the database changes all the time, those who ask for the same share one reading.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic

import msgspec
from quart import Response

from gocdnext.api.respond import JSON, encode
from gocdnext.db import queries
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.db.rounds import Rounds

KEPT_FOR = 10.0
"""Seconds that an answer is kept at most: the figures of the last days change with the clock."""
MOST_BYTES = 32 * 1024 * 1024
"""Of all answers that are kept, packed ones included; beyond it the one that was not asked for longest is dropped."""
LARGEST = 2 * 1024 * 1024
"""Bytes of one answer that is kept."""
TAGGED = 4 * 1024 * 1024
"""Bytes of an answer that has a tag: hashing one takes the server's only thread a few milliseconds."""

_SQL = queries.load("pool")


@dataclass(frozen=True, slots=True)
class Fresh:
    """What a reading gave; `lasts` is false when it follows from more than the database, as from who is connected."""

    message: msgspec.Struct
    lasts: bool = True


class Rendered:
    """A JSON body with what is sent beside it or instead of it."""

    __slots__ = ("body", "packed", "tag")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.tag = "" if len(body) > TAGGED else blake2b(body, digest_size=16).hexdigest()
        self.packed: bytes | None = None
        """The body in gzip, once somebody wanted it so."""


class KeptResponse(Response):
    """An answer whose body has been rendered, tagged and perhaps packed before."""

    def __init__(self, rendered: Rendered) -> None:
        super().__init__(rendered.body, 200, content_type=JSON)
        self.rendered = rendered


@dataclass(slots=True)
class _Entry:
    moment: str
    until: float
    rendered: Rendered


class Kept:
    """The answers that one server keeps. Only ever touched from its one thread."""

    def __init__(self, db: Database, ticks: Callable[[], float] = monotonic) -> None:
        self._db = db
        self._ticks = ticks
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._bytes = 0
        self._moments: Rounds[None, str] = Rounds()
        self._readings: Rounds[Hashable, Rendered] = Rounds()

    async def answer(self, key: Hashable, read: Callable[[], Awaitable[Fresh]]) -> Response:
        """The answer that `read` would give now; `key` is all that it depends on beside the database. One statement
        when it is kept and still good, else that one and those of `read`. Raises what `read` raises."""
        moment = await self._moment()
        entry = self._entries.get(key)
        if entry is not None and entry.moment == moment and self._ticks() < entry.until:
            self._entries.move_to_end(key)
            return KeptResponse(entry.rendered)

        async def reading() -> Rendered:
            fresh = await read()
            rendered = Rendered(encode(fresh.message))
            self._keep(key, moment, rendered, lasts=fresh.lasts)
            return rendered

        return KeptResponse(await self._readings.result(key, reading))

    async def _moment(self) -> str:
        try:
            return await self._moments.result(None, lambda: self._db.fetchval(_SQL.moment))
        except DatabaseUnavailableError:
            # Another server may answer under this name next, and have gone another way since.
            self._entries.clear()
            self._bytes = 0
            raise

    def _keep(self, key: Hashable, moment: str, rendered: Rendered, *, lasts: bool) -> None:
        if (old := self._entries.pop(key, None)) is not None:
            self._bytes -= _size(old.rendered)
        if not lasts or len(rendered.body) > LARGEST:
            return
        self._entries[key] = _Entry(moment, self._ticks() + KEPT_FOR, rendered)
        self._bytes += _size(rendered)
        while self._bytes > MOST_BYTES:
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= _size(dropped.rendered)


def _size(rendered: Rendered) -> int:
    """Counted as if it were packed already, so that the sum does not change when it is; and what the entry costs."""
    return len(rendered.body) + len(rendered.body) // 2 + 512
