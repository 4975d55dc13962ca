"""`/api/v1/admin/health`: how the server is (contract-admin 7.6). It only looks."""

from __future__ import annotations

from datetime import timedelta

import trio
from quart import Blueprint, Response

from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.api.wire import settings_admin as wire
from gocdnext.db import queries
from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.disks import Reading
from gocdnext.runs.scheduler import TICK

blueprint = Blueprint("admin_health", __name__)
_SQL = queries.load("health")
ANSWER_WITHIN = 5.0
"""Seconds that the database gets before it counts as away."""
HEARD_WITHIN = timedelta(seconds=90)
WEEK = timedelta(days=7)


@route(blueprint, "GET", "/api/v1/admin/health", described=Description(gives=wire.AdminHealth))
async def health() -> Response:
    """Database, agents, queue, scheduler and disks. Always 200: the body says what is wrong."""
    here, now = services(), services().clock()
    last = here.last_pass()
    ago = None if last is None else trio.current_time() - last
    message = wire.AdminHealth(
        db_ok=True,
        db_error="",
        agents_online=0,
        agents_stale=0,
        agents_offline=0,
        queued_runs=0,
        pending_jobs=0,
        success_rate_7d=0.0,
        checked_at=utc(now),
        scheduler_tick_lag_seconds=None if ago is None else round(max(0.0, ago - TICK), 3),
        scheduler_last_tick_at=utc_or_none(None if ago is None else now - timedelta(seconds=ago)),
        disks=[_disk(reading) for reading in here.disks.readings],
    )
    try:
        with trio.fail_after(ANSWER_WITHIN):
            agents = await here.db.fetchrow(_SQL.agents, now - HEARD_WITHIN)
            runs = await here.db.fetchrow(_SQL.runs, now - WEEK)
    except (DatabaseUnavailableError, trio.TooSlowError) as error:
        message.db_ok, message.db_error = False, str(error) or f"no answer within {ANSWER_WITHIN:g} s"
        return answer(message)
    assert agents is not None
    assert runs is not None
    message.agents_online, message.agents_stale, message.agents_offline = agents
    message.queued_runs, message.pending_jobs = runs["queued_runs"], runs["pending_jobs"]
    ended = runs["successes"] + runs["failures"]
    message.success_rate_7d = runs["successes"] / ended if ended else 0.0
    return answer(message)


def _disk(reading: Reading) -> wire.DiskHealth:
    return wire.DiskHealth(
        name=reading.place.name,
        path=str(reading.place.path),
        free_bytes=reading.free,
        total_bytes=reading.total,
        level=reading.level.word,
        text=reading.sentence,
    )
