"""The seven-day figures of projects and pipelines (contract-runs 2.1), kept as long as nothing has changed.

They look at every run of a week, so they are computed when a run has begun or ended, not for every reader: a statement is
told of which of its rows the figures are known, and in what state the runs were then, and leaves out those that still are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

WINDOW = timedelta(days=7)
"""How far back the figures look."""
KEPT_FOR = timedelta(seconds=30)
"""The oldest figures that are shown: the window moves, and a run that is not the newest may end."""
MOST = 10_000
"""Projects and pipelines whose figures are kept."""


class Week(NamedTuple):
    """The figures of one project or pipeline; durations in seconds. None where there is nothing to count."""

    runs_considered: int
    success_rate: float | None
    lead_time_p50_seconds: float | None
    process_time_p50_seconds: float | None


class _Entry(NamedTuple):
    state: str
    until: datetime
    week: Week


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered when a question is asked: the last arguments of a statement that has figures."""

    since: datetime
    entries: Mapping[UUID, _Entry] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[datetime, list[UUID], list[str]]:
        """From when on runs count, the ids whose figures are known, and the state of each."""
        return self.since, list(self.entries), [entry.state for entry in self.entries.values()]


class Figures:
    """A bounded memory of figures, by the question that they answered. One per server; only ever touched from its one
    thread."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, dict[UUID, _Entry]] = OrderedDict()
        self._kept = 0

    def known(self, question: Hashable, now: datetime) -> Known:
        """What need not be computed for this question."""
        entries = self._answers.get(question, {})
        return Known(now - WINDOW, {key: entry for key, entry in entries.items() if now < entry.until})

    def learn(
        self, question: Hashable, known: Known, rows: Iterable[asyncpg.Record], now: datetime
    ) -> dict[UUID, Week]:
        """The figures of all rows (`id`, `state` and the columns of Week, which mean nothing where they were known)."""
        entries: dict[UUID, _Entry] = {}
        for row in rows:
            before = known.entries.get(row["id"])
            if before is None or before.state != row["state"]:
                before = _Entry(row["state"], now + KEPT_FOR, Week(*(row[name] for name in Week._fields)))
            entries[row["id"]] = before
        self._keep(question, entries)
        return {key: entry.week for key, entry in entries.items()}

    def _keep(self, question: Hashable, entries: dict[UUID, _Entry]) -> None:
        self._kept += len(entries) - len(self._answers.pop(question, ()))
        self._answers[question] = entries
        while self._kept > MOST and len(self._answers) > 1:
            self._kept -= len(self._answers.popitem(last=False)[1])
