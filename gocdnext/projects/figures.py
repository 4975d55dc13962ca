"""The seven-day figures of projects and pipelines (contract-runs 2.1), kept as long as nothing has changed.

They look at every run of a week, so they are computed when a run has begun or ended, not for every reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Connection

WINDOW = timedelta(days=7)
"""How far back the figures look."""
KEPT_FOR = timedelta(seconds=30)
"""The oldest figures that are shown: the window moves, and a run that is not the newest may end."""
MOST = 10_000
"""Projects and pipelines whose figures are kept."""

_SQL = queries.load("projects")


class _Entry(NamedTuple):
    state: object
    until: datetime
    row: asyncpg.Record


class Figures:
    """A bounded memory of figures by id. One per server; only ever touched from its one thread."""

    def __init__(self) -> None:
        self._known: dict[UUID, _Entry] = {}

    async def of(self, conn: Connection, states: Mapping[UUID, object], now: datetime) -> dict[UUID, asyncpg.Record]:
        """The figures of projects and pipelines by id. `states` says of each in what state its runs are: figures
        that were computed for the same state are not computed again. At most one statement."""
        found = {key: entry.row for key, state in states.items() if (entry := self._good(key, state, now))}
        stale = [key for key in states if key not in found]
        if not stale:
            return found
        rows = await conn.fetch(_SQL.figures, stale, now - WINDOW)
        if len(self._known) + len(rows) > MOST:
            self._known.clear()
        for row in rows:
            found[row["id"]] = row
            self._known[row["id"]] = _Entry(states[row["id"]], now + KEPT_FOR, row)
        return found

    def _good(self, key: UUID, state: object, now: datetime) -> _Entry | None:
        entry = self._known.get(key)
        return entry if entry is not None and entry.state == state and now < entry.until else None
