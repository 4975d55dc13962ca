"""What sweepers have done since the process began, and doing it now: for the route and the metrics. Sweeps nothing itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog
import trio

from gocdnext.db.pool import DatabaseUnavailableError

Sweep = Callable[[], Awaitable[int | Mapping[str, int]]]
"""One pass: how many things it changed, or how many of which."""
CHANGED = "Changed"
"""The name of things that a sweeper does not tell apart."""
_log = structlog.get_logger("sweeper")


class SweepMetrics(Protocol):
    """What is counted of passes."""

    def swept(self, sweeper: str, outcome: str, changed: Mapping[str, int]) -> None:
        """A pass ended: `done` or `failed`."""


@dataclass(slots=True)
class Report:
    """What one sweeper has done."""

    sweep: Sweep
    lock: trio.Lock = field(default_factory=trio.Lock)
    """One pass at a time, be it begun by the clock or by hand."""
    last_at: datetime | None = None
    last_error: str = ""
    """Why the last pass failed; empty when it did not."""
    last: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    passes: int = 0
    failures: int = 0


class Board:
    """The sweepers of this process by name."""

    def __init__(self, clock: Callable[[], datetime] | None = None, metrics: SweepMetrics | None = None) -> None:
        self._clock = clock or (lambda: datetime.now(UTC))
        self._metrics = metrics
        self.reports: dict[str, Report] = {}

    def add(self, name: str, sweep: Sweep) -> None:
        """One more sweeper."""
        self.reports[name] = Report(sweep)

    async def once(self, name: str) -> None:
        """One pass of a sweeper. An absent database or disk is told, and waited for."""
        report = self.reports[name]
        async with report.lock:
            error = ""
            try:
                told = await report.sweep()
            except DatabaseUnavailableError as reason:
                told, error = 0, str(reason)
                _log.warning("the database is away", sweeper=name, error=error)
            except OSError as reason:
                told, error = 0, str(reason)
                _log.error("the disk does not do what it should", sweeper=name, error=error)
            changed = Counter(told if isinstance(told, Mapping) else {CHANGED: told})
            report.last_at, report.last_error, report.last = self._clock(), error, changed
            report.totals.update(changed)
            report.passes += 1
            report.failures += bool(error)
            if self._metrics is not None:
                self._metrics.swept(name, "failed" if error else "done", changed)
            if any(changed.values()):
                _log.info("swept", sweeper=name, changed={key: count for key, count in changed.items() if count})

    async def all_once(self) -> None:
        """One pass of every sweeper, one after the other."""
        for name in list(self.reports):
            await self.once(name)
