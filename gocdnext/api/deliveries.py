"""`/api/v1/admin/webhooks`: what providers sent, what was answered and why, and doing it once more (contract-admin 7.7)."""

from __future__ import annotations

from typing import Annotated, Any

import asyncpg
import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from gocdnext.api import params, query, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited
from gocdnext.errors import InvalidError
from gocdnext.materials.webhooks import deliveries

blueprint = Blueprint("deliveries", __name__)

_PATH = {"delivery_id": Annotated[int, Meta(ge=1, le=params.INT64)]}


class DeliveryQuery(msgspec.Struct):
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    offset: query.Offset = 0
    provider: Annotated[str, Meta(description="`github`, `gitlab` or `bitbucket`.")] | None = None
    status: Annotated[str, Meta(description="What became of it.", examples=["accepted"])] | None = None


@route(blueprint, "GET", "/api/v1/admin/webhooks", described=Description(asks=DeliveryQuery, gives=wire.Deliveries))
async def list_deliveries() -> Response:
    """Deliveries, newest first."""
    asked = query.asked(DeliveryQuery)
    page = await deliveries.page(services().db, asked.provider, asked.status, asked.limit, asked.offset)
    message = wire.Deliveries(
        deliveries=[wire.Delivery(**_common(row)) for row in page.rows],
        total=page.total,
        limit=asked.limit,
        offset=asked.offset,
    )
    return answer(message)


@route(
    blueprint,
    "GET",
    "/api/v1/admin/webhooks/<delivery_id>",
    described=Description(gives=wire.DeliveryDetail, path=_PATH),
)
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
    described=Description(gives=wire.Delivery, status=202, path=_PATH, fails=frozenset({409})),
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
