"""The audit trail: who did what, or tried to (contract-admin 7.3). Rows are added and read, never changed.

Nothing here knows HTTP, or which actions there are: those are declared where they are done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog
import trio

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database, DatabaseUnavailableError

_LOG = structlog.get_logger(__name__)
_SQL = queries.load("audit")

DONE, REFUSED, FAILED, UNKNOWN = "done", "refused", "failed", "unknown"
"""How it ended: it happened; it was not allowed or made no sense; it could not be done; nobody was there to hear."""
RECORD_WITHIN = 2.0
"""Seconds that writing an event may take. Its request waits for it, and a stopping server waits for the request."""
MAX_TEXT = 1024
"""Characters of a text of an event that are kept: targets come from requests."""
MAX_DETAILS = 32
"""Details of an event that are kept."""

Detail = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Event:
    """One act. `metadata` never holds the value of a secret; `status` is the HTTP status of the answer, if there was one."""

    id: UUID
    at: datetime
    action: str
    target_type: str
    target_id: str
    outcome: str
    status: int | None = None
    actor_id: UUID | None = None
    actor_email: str = ""
    actor_name: str = ""
    address: str = ""
    request_id: str = ""
    metadata: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted; None is no limit. `actor` is a part of e-mail or name, `since` inclusive, `until` not."""

    action: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    outcome: str | None = None
    actor_id: UUID | None = None
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, newest first, and how many the filter lets through in all."""

    events: list[asyncpg.Record]
    total: int


async def record(db: Database, event: Event) -> None:
    """Writes an event, also for a caller that is being cancelled. What was done stays done when it cannot be written:
    then the event goes to the server's log, and nothing is raised.
    """
    reason = f"not within {RECORD_WITHIN:g} s"
    # Shielded: a caller that leaves must not take the trace of what it did along. Bounded by the timeout.
    with trio.move_on_after(RECORD_WITHIN, shield=True):
        try:
            await db.execute(_SQL.add, *_columns(event))
            return
        except (DatabaseUnavailableError, asyncpg.PostgresError) as error:
            reason = str(error)
    _LOG.error(
        "audit event not written",
        why=reason,
        action=event.action,
        target=_bounded(event.target_id),
        outcome=event.outcome,
        actor=event.actor_email or event.actor_name,
        address=event.address,
        details=_metadata(event),
    )


async def add(conn: Connection, event: Event) -> None:
    """Writes an event in the transaction of what it is about (asyncio side): there is one without the other never."""
    await conn.execute(_SQL.add, *_columns(event))


async def page(db: Database, wanted: Filter, limit: int, offset: int) -> Page:
    """Events, newest first. Two statements, one crossing."""
    by = (
        wanted.action,
        wanted.target_type,
        wanted.target_id,
        wanted.outcome,
        wanted.actor_id,
        wanted.actor,
        wanted.since,
        wanted.until,
    )

    async def work(conn: Connection) -> Page:
        return Page(await conn.fetch(_SQL.page, *by, limit, offset), await conn.fetchval(_SQL.total, *by))

    return await db.run(work)


def _columns(event: Event) -> tuple[object, ...]:
    return (
        event.id,
        event.at,
        event.actor_id,
        _bounded(event.actor_email),
        _bounded(event.actor_name),
        event.action,
        event.target_type,
        _bounded(event.target_id),
        event.outcome,
        event.status,
        event.address,
        event.request_id,
        _metadata(event),
    )


def _metadata(event: Event) -> dict[str, Detail]:
    kept = list(event.metadata.items())[:MAX_DETAILS]
    return {name: _bounded(value) if isinstance(value, str) else value for name, value in kept}


def _bounded(text: str) -> str:
    """Cut to MAX_TEXT, and without what PostgreSQL cannot store."""
    return text[:MAX_TEXT].replace("\0", "").encode("utf-8", "replace").decode()
