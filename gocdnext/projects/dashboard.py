"""The figures of the whole server at a glance (contract-runs 8.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.projects.figures import WINDOW

_SQL = queries.load("dashboard")


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Counts; `success_rate` is 0 to 1, `p50_seconds` the median from start to end."""

    runs_today: int
    successes: int
    failures: int
    canceled: int
    success_rate: float
    p50_seconds: float
    queued_runs: int
    pending_jobs: int


async def dashboard(db: Database, now: datetime) -> Dashboard:
    """The figures as of `now`. The day begins at midnight UTC. One statement."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    row = await db.fetchrow(_SQL.figures, midnight, now - WINDOW)
    assert row is not None
    decided = row["successes"] + row["failures"]
    return Dashboard(
        runs_today=row["runs_today"],
        successes=row["successes"],
        failures=row["failures"],
        canceled=row["canceled"],
        success_rate=row["successes"] / decided if decided else 0.0,
        p50_seconds=row["p50_seconds"] or 0.0,
        queued_runs=row["queued_runs"],
        pending_jobs=row["pending_jobs"],
    )
