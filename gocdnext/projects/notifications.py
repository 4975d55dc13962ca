"""What the pipelines of a project inherit that declare no notifications of their own (contract-admin 6.3).

A run takes them over when it is made: a change is for later runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import InvalidError, NotFoundError
from gocdnext.pipeline.model import Notification
from gocdnext.pipeline.plugins import Manifest, plugin_flaws
from gocdnext.pipeline.uses import resolve_uses
from gocdnext.projects import limits
from gocdnext.runs.definitions import decode_notifications

EVENTS = ("failure", "success", "always", "canceled")
MOST = 50
"""Notifications of a project: each is a job of every run."""
SHOWN = 80
"""Characters of a refused text that are repeated."""

_SQL = queries.load("settings")


async def notifications(db: Database, slug: str) -> tuple[Notification, ...]:
    """The notifications of a project. Raises NotFoundError."""
    text: str | None = await db.fetchval(_SQL.notifications, slug)
    if text is None:
        raise NotFoundError("project not found")
    return decode_notifications(text)


async def set_notifications(
    db: Database, slug: str, wanted: Sequence[Notification], catalogue: Mapping[str, Manifest], now: datetime
) -> None:
    """Replaces them. Raises InvalidError with the place of what is wrong, NotFoundError."""
    if len(wanted) > MOST:
        raise InvalidError(f"more than {MOST} notifications")
    kept = tuple(_checked(index, entry, catalogue) for index, entry in enumerate(wanted))
    if found := limits.unstorable_text(msgspec.to_builtins(kept)):
        raise InvalidError(found)
    if await db.fetchval(_SQL.set_notifications, slug, msgspec.json.encode(kept).decode(), now) is None:
        raise NotFoundError("project not found")


def _checked(index: int, entry: Notification, catalogue: Mapping[str, Manifest]) -> Notification:
    for flaw in _flaws(entry, catalogue):
        raise InvalidError(f"notifications[{index}]: {flaw}")
    return msgspec.structs.replace(entry, on=entry.on.strip().lower(), uses=entry.uses.strip())


def _flaws(entry: Notification, catalogue: Mapping[str, Manifest]) -> Iterator[str]:
    if entry.on.strip().lower() not in EVENTS:
        yield f'unknown on "{entry.on[:SHOWN]}" (allowed: {", ".join(EVENTS)})'
    if not entry.uses.strip():
        yield "`uses:` is required"
    # In a file this is found when a run is made; here somebody is there to be told.
    image, wrong = resolve_uses(entry.uses)
    if wrong:
        yield f'`uses:` "{entry.uses[:SHOWN]}" {wrong}'
    yield from plugin_flaws(image, entry.with_, catalogue)
