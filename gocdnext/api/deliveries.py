"""`/api/v1/admin/webhooks`: what providers sent, what was answered and why, and doing it once more (contract-admin 7.7)."""

from __future__ import annotations

from typing import Any

import asyncpg
from quart import Blueprint, Response

from gocdnext.api import params, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc
from gocdnext.api.routing import route
from gocdnext.api.trail import Audited
from gocdnext.errors import InvalidError
from gocdnext.materials.webhooks import deliveries

blueprint = Blueprint("deliveries", __name__)

DEFAULT_LIMIT, MAX_LIMIT = 50, 200


@route(blueprint, "GET", "/api/v1/admin/webhooks")
async def list_deliveries() -> Response:
    """Deliveries, newest first."""
    limit = params.whole("limit", DEFAULT_LIMIT, low=1, high=MAX_LIMIT)
    offset = params.whole("offset", 0, low=0, high=params.INT64, width=params.INT64)
    page = await deliveries.page(services().db, params.filter_of("provider"), params.filter_of("status"), limit, offset)
    message = wire.Deliveries(
        deliveries=[wire.Delivery(**_common(row)) for row in page.rows], total=page.total, limit=limit, offset=offset
    )
    return answer(message)


@route(blueprint, "GET", "/api/v1/admin/webhooks/<delivery_id>")
async def show_delivery(delivery_id: str) -> Response:
    """One delivery: headers and payload without secrets, and the rules that decided."""
    row = await deliveries.show(services().db, _id(delivery_id))
    message = wire.DeliveryDetail(
        **_common(row),
        verified=row["verified"],
        headers=row["headers"],
        payload=row["payload"],
        trace=[wire.Note(**note) for note in row["trace"]],
    )
    return answer(message)


@route(
    blueprint,
    "POST",
    "/api/v1/admin/webhooks/<delivery_id>/redeliver",
    Audited("webhook.redeliver", "webhook_delivery", "{delivery_id}"),
)
async def redeliver(delivery_id: str) -> Response:
    """Processes a delivery once more; runs that it has started are not started again."""
    here = services()
    made, given = await here.webhooks.redeliver(_id(delivery_id))
    row = await deliveries.show(here.db, made)
    here.metrics.webhook_delivery(row["provider"], given.word)
    return answer(wire.Delivery(**_common(row)), 202)


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:20]) <= params.INT64:
        raise InvalidError("invalid id")
    return int(text)


def _common(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "provider": row["provider"],
        "event": row["event"],
        "delivery": row["delivery"] or None,
        "material_id": None if row["material_id"] is None else str(row["material_id"]),
        "status": row["status"],
        "http_status": row["http_status"],
        "error": row["error"],
        "runs": [str(run) for run in row["runs"]],
        "redelivery_of": row["redelivery_of"],
        "received_at": utc(row["received_at"]),
    }
