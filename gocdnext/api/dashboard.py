"""`/api/v1/dashboard/metrics`: the figures of the whole server (contract-runs 8.1)."""

from __future__ import annotations

from quart import Blueprint, Response

from gocdnext.api import wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer
from gocdnext.api.routing import Description, route
from gocdnext.projects.dashboard import dashboard

blueprint = Blueprint("dashboard", __name__)


@route(blueprint, "GET", "/api/v1/dashboard/metrics", described=Description(gives=wire.DashboardMetrics))
async def show_metrics() -> Response:
    """All projects together: today, the last seven days, now."""
    here = services()
    found = await dashboard(here.db, here.clock())
    message = wire.DashboardMetrics(
        runs_today=found.runs_today,
        successes_7d=found.successes,
        failures_7d=found.failures,
        canceled_7d=found.canceled,
        success_rate_7d=found.success_rate,
        p50_seconds_7d=found.p50_seconds,
        queued_runs=found.queued_runs,
        pending_jobs=found.pending_jobs,
    )
    return answer(message)
