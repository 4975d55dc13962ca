"""`/api/v1/admin/audit`: who did what, or tried to (contract-admin 7.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import asyncpg
from quart import Blueprint, Response

from gocdnext import audit
from gocdnext.api import params, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc
from gocdnext.api.routing import route
from gocdnext.errors import InvalidError

blueprint = Blueprint("audit", __name__)

DEFAULT_LIMIT, MAX_LIMIT = 100, 500

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)


@route(blueprint, "GET", "/api/v1/admin/audit")
async def list_events() -> Response:
    """Events, newest first."""
    limit = params.whole("limit", DEFAULT_LIMIT, low=1, high=MAX_LIMIT, refusal="limit must be a positive integer")
    offset = params.whole("offset", 0, low=0, high=params.INT64, width=params.INT64, refusal="offset must be >= 0")
    starts = [moment for moment in (_moment("from"), _moment("since")) if moment is not None]
    actor_id = params.filter_of("actor_id")
    wanted = audit.Filter(
        action=params.filter_of("action"),
        target_type=params.filter_of("target_type"),
        target_id=params.filter_of("target_id"),
        outcome=params.filter_of("outcome"),
        actor_id=None if actor_id is None else params.uuid(actor_id, "actor_id must be a UUID"),
        actor=params.filter_of("actor"),
        since=max(starts, default=None),
        until=_moment("to"),
    )
    found = await audit.page(services().db, wanted, limit, offset)
    events = [_event(row) for row in found.events]
    return answer(wire.AuditEvents(events=events, total=found.total, limit=limit, offset=offset))


def _moment(name: str) -> datetime | None:
    text = params.filter_of(name)
    if text is None:
        return None
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError(text)
        moment = datetime.fromisoformat(text.upper())
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidError(f"{name} must be RFC3339 or YYYY-MM-DD") from None


def _event(row: asyncpg.Record) -> wire.AuditEvent:
    return wire.AuditEvent(
        id=str(row["id"]),
        action=row["action"],
        target_type=row["target_type"],
        target_id=row["target_id"],
        metadata=row["metadata"],
        at=utc(row["at"]),
        outcome=row["outcome"],
        status=row["status"],
        actor_id=None if row["actor_id"] is None else str(row["actor_id"]),
        actor_email=row["actor_email"],
        actor_name=row["actor_name"],
        address=row["address"],
        request_id=row["request_id"],
    )
