"""Deliveries as they are kept: written with their outcome, listed, shown, forgotten (contract-admin 7.7, 8.1).

What a header or payload may carry that is secret is taken out before it is stored. Decides nothing about runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import NotFoundError
from gocdnext.materials.git import without_credentials
from gocdnext.materials.webhooks.events import Headers, Provider, text
from gocdnext.materials.webhooks.trace import Trace

_SQL = queries.load("webhooks")
KEPT_FOR = timedelta(days=30)
KEPT_OF_STRANGERS = 1000
"""Deliveries that nobody has signed for; a stranger can send any number."""
MAX_STRANGERS_PAYLOAD = 16 * 1024
"""Bytes that are kept of a payload whose sender is not known."""
MAX_HEADER = 512
MAX_NAME = 255
"""Characters of an event's or delivery's name."""
_COMMON = ("Content-Type", "User-Agent")
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_SENSITIVE = re.compile(r"token|secret|password|passwd|authorization|private_?key|credential", re.IGNORECASE)
_REDACTED = "[redacted]"
_TOO_DEEP = '"(nested too deeply to be kept)"'

ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"
ERROR: Final = "error"
IGNORED: Final = "ignored"
SKIPPED: Final = "skipped"


@dataclass(slots=True)
class Answer:
    """What the provider is told. Without a body it is 204."""

    status: int
    body: dict[str, object] | None = None
    word: str = ACCEPTED
    """The delivery's status."""
    runs: list[UUID] = field(default_factory=list)
    material_id: UUID | None = None

    @property
    def error(self) -> str:
        """The text of a refusal, or empty."""
        return str((self.body or {}).get("error", ""))


@dataclass(slots=True)
class Delivery:
    """One delivery on its way."""

    provider: Provider
    event: str
    name: str
    """The provider's id of it; may be empty."""
    headers: dict[str, str]
    received_at: datetime
    payload: object = None
    verified: bool = False
    redelivery_of: int | None = None
    trace: Trace = field(default_factory=Trace)


def wanted_headers(provider: Provider) -> tuple[str, ...]:
    """Every header that is looked at."""
    return (*provider.kept_headers, *_COMMON, provider.credential_header)


def taken(provider: Provider, event: str, headers: Headers, now: datetime) -> Delivery:
    """A delivery whose body is not read yet."""
    kept = {name: text(headers[name])[:MAX_HEADER] for name in (*provider.kept_headers, *_COMMON) if name in headers}
    name = text(headers.get(provider.delivery_header, ""))[:MAX_NAME]
    return Delivery(provider, text(event)[:MAX_NAME], name, kept, now)


async def keep(conn: Connection, delivery: Delivery, answer: Answer) -> int:
    """Writes a delivery down with its answer; its id."""
    delivery_id: int = await conn.fetchval(
        _SQL.keep_delivery,
        delivery.provider.name,
        delivery.event,
        delivery.name,
        answer.material_id,
        answer.word,
        answer.status,
        text(answer.error),
        delivery.verified,
        delivery.redelivery_of,
        delivery.headers,
        _stored(delivery),
        delivery.trace.notes(),
        answer.runs,
        delivery.received_at,
    )
    if not delivery.verified and delivery_id % 100 == 0:
        await conn.execute(_SQL.forget_refused, KEPT_OF_STRANGERS)
    return delivery_id


def _stored(delivery: Delivery) -> str:
    """The payload as JSON text that the database takes: no NUL, nothing secret, little of a stranger."""
    try:
        data = orjson.dumps(redacted(delivery.payload))
    except (RecursionError, orjson.JSONEncodeError):
        return _TOO_DEEP
    if not delivery.verified and len(data) > MAX_STRANGERS_PAYLOAD:
        shown = data[:MAX_STRANGERS_PAYLOAD].decode(errors="replace")
        data = orjson.dumps(f"{shown}… ({len(data)} bytes in all)")
    return _NUL.sub(r"\1\\ufffd", data.decode())


def redacted(value: Any) -> Any:
    """The same without texts under keys that speak of secrets, and without passwords in urls."""
    if isinstance(value, dict):
        return {key: _REDACTED if _hides(key, inner) else redacted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [redacted(inner) for inner in value]
    return without_credentials(value) if isinstance(value, str) and "://" in value and "@" in value else value


def _hides(key: str, value: object) -> bool:
    return isinstance(value, str) and value != "" and _SENSITIVE.search(key) is not None


@dataclass(frozen=True, slots=True)
class Page:
    """Some deliveries, and how many there are."""

    rows: list[asyncpg.Record]
    total: int


async def page(db: Database, provider: str | None, status: str | None, limit: int, offset: int) -> Page:
    """Deliveries, newest first."""

    async def work(conn: Connection) -> Page:
        rows = await conn.fetch(_SQL.list, provider, status, limit, offset)
        return Page(rows, await conn.fetchval(_SQL.count, provider, status))

    return await db.run(work)


async def show(db: Database, delivery_id: int) -> asyncpg.Record:
    """One delivery with payload, headers and trace. Raises NotFoundError."""
    row = await db.fetchrow(_SQL.show, delivery_id)
    if row is None:
        raise NotFoundError("webhook delivery not found")
    return row


async def forget(db: Database, now: datetime) -> int:
    """Deletes what is older than anybody asks for; how many deliveries that were."""
    return sum(row["gone"] for _, row in await db.run(lambda conn: forget_on(conn, now)))


async def forget_on(conn: Connection, now: datetime) -> list[tuple[str, asyncpg.Record]]:
    """The same on a connection, asyncio side: for each reason how many are `gone`, their `size_bytes`, `since` when."""
    old = await conn.fetchrow(_SQL.forget_old, now - KEPT_FOR)
    strangers = await conn.fetchrow(_SQL.forget_refused, KEPT_OF_STRANGERS)
    assert old is not None
    assert strangers is not None
    return [("old_deliveries", old), ("strangers", strangers)]
