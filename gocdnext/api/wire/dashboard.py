"""The figures of the whole server as clients read them (contract-runs 8.1). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Wire


class DashboardMetrics(Wire):
    """All keys are always there."""

    runs_today: int
    successes_7d: int
    failures_7d: int
    canceled_7d: int
    success_rate_7d: float
    p50_seconds_7d: float
    queued_runs: int
    pending_jobs: int
