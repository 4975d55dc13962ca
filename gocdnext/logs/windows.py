"""The log windows of the run detail (contract-runs 3.2): tail, head and `since`, for all jobs in one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Database

MAX_LINES = 2000
"""Most lines of one window; a larger wish counts as this."""

_SQL = queries.load("logs")


class LogLine(NamedTuple):
    """One line as people see it."""

    seq: int
    stream: str
    at: datetime
    text: str


@dataclass(slots=True)
class Window:
    """What is shown of one job's log."""

    tail: Sequence[LogLine] = ()
    """The last lines, or those after the cursor; ascending."""
    head: Sequence[LogLine] = ()
    """The first lines, without those that are in `tail`; empty with a cursor."""
    total: int = 0

    @property
    def omitted(self) -> int:
        """How many lines lie between head and tail."""
        return max(0, self.total - len(self.head) - len(self.tail))


async def windows(
    db: Database, job_ids: Sequence[UUID], *, tail: int, head: int = 0, since: Mapping[UUID, int] | None = None
) -> dict[UUID, Window]:
    """The window of each job. `tail` and `head` are lines (0..MAX_LINES); a job in `since` gets the oldest `tail` lines
    with a larger seq instead. Raises DatabaseUnavailableError."""
    if not job_ids:
        return {}
    cursors = [(since or {}).get(job_id) for job_id in job_ids]
    rows = await db.fetch(_SQL.windows, list(job_ids), cursors, min(tail, MAX_LINES), min(head, MAX_LINES))
    found: dict[UUID, dict[str, list[asyncpg.Record]]] = {job_id: {} for job_id in job_ids}
    for row in rows:
        found[row["job_id"]].setdefault(row["part"], []).append(row)
    return {job_id: _window(parts) for job_id, parts in found.items()}


def _window(parts: Mapping[str, list[asyncpg.Record]]) -> Window:
    shown = sorted((_line(row) for row in parts.get("tail", ())), key=_position)
    first = sorted((_line(row) for row in parts.get("head", ())), key=_position)
    if shown:
        first = [line for line in first if _position(line) < _position(shown[0])]
    return Window(tail=shown, head=first, total=parts["total"][0]["seq"])


def _line(row: asyncpg.Record) -> LogLine:
    return LogLine(row["seq"], row["stream"], row["at"], row["text"])


def _position(line: LogLine) -> tuple[int, datetime]:
    return line.seq, line.at
