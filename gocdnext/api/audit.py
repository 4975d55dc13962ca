"""`/api/v1/admin/audit`: who did what, or tried to (contract-admin 7.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import asyncpg
import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from gocdnext import audit
from gocdnext.api import params, query, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc
from gocdnext.api.routing import Description, route
from gocdnext.errors import InvalidError

blueprint = Blueprint("audit", __name__)

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)

Moment = Annotated[str, Meta(description="RFC 3339, or a date.", examples=["2026-04-01"])]


class EventQuery(msgspec.Struct, rename={"from_": "from"}):
    limit: Annotated[
        int, Meta(ge=1, le=500, extra={"whole": query.Whole(refusal="limit must be a positive integer")})
    ] = 100
    offset: Annotated[
        int, Meta(ge=0, le=params.INT64, extra={"whole": query.Whole(params.INT64, "offset must be >= 0")})
    ] = 0
    action: Annotated[str, Meta(description="What was done.", examples=["approval.approve"])] | None = None
    target_type: Annotated[str, Meta(description="To what kind of thing.", examples=["project"])] | None = None
    target_id: Annotated[str, Meta(description="To which one.")] | None = None
    outcome: Annotated[str, Meta(description="What came of it: `done`, `refused`, `failed` or `unknown`.")] | None = (
        None
    )
    actor_id: Annotated[str, Meta(description="The id of who did it.", extra_json_schema={"format": "uuid"})] | None = (
        None
    )
    actor: Annotated[str, Meta(description="The e-mail or name of who did it.")] | None = None
    from_: Moment | None = None
    since: Moment | None = None
    to: Moment | None = None


@route(blueprint, "GET", "/api/v1/admin/audit", described=Description(asks=EventQuery, gives=wire.AuditEvents))
async def list_events() -> Response:
    """Events, newest first."""
    asked = query.asked(EventQuery)
    starts = [moment for moment in (_moment("from", asked.from_), _moment("since", asked.since)) if moment is not None]
    wanted = audit.Filter(
        action=asked.action,
        target_type=asked.target_type,
        target_id=asked.target_id,
        outcome=asked.outcome,
        actor_id=None if asked.actor_id is None else params.uuid(asked.actor_id, "actor_id must be a UUID"),
        actor=asked.actor,
        since=max(starts, default=None),
        until=_moment("to", asked.to),
    )
    found = await audit.page(services().db, wanted, asked.limit, asked.offset)
    events = [_event(row) for row in found.events]
    return answer(wire.AuditEvents(events=events, total=found.total, limit=asked.limit, offset=asked.offset))


def _moment(name: str, text: str | None) -> datetime | None:
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
