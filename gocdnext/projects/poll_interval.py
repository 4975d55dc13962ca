"""How often the repository of a project is polled (contract-admin 6.2). Polling itself is in the materials room."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from gocdnext import durations
from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import ConflictError, InvalidError, NotFoundError

LOWEST, HIGHEST = 60, 24 * 3600
"""Seconds."""
SHOWN = 64
"""Characters of a refused text that are repeated."""

_SQL = queries.load("polling")


async def set_poll_interval(db: Database, slug: str, text: str, now: datetime) -> str:
    """Keeps a Go duration, or none (empty: no polling), and returns it as Go prints it.

    Raises InvalidError, NotFoundError (no such project), ConflictError (no repository is bound to it).
    """
    seconds = _seconds(text.strip())
    found = await db.fetchrow(_SQL.set_poll_interval, slug, int(seconds * 10**9), now)
    assert found is not None
    if not found["project"]:
        raise NotFoundError("project not found")
    if not found["source"]:
        raise ConflictError("project has no scm_source bound — connect a repo first")
    return _as_go_prints(seconds) if seconds else ""


def _seconds(text: str) -> Decimal:
    if not text:
        return Decimal(0)
    shown = text[:SHOWN]
    seconds = durations.go_duration(text)
    if seconds is None:
        raise InvalidError(f'poll_interval: parse "{shown}": not a duration: write for example 5m or 1h30m')
    if seconds < LOWEST:
        raise InvalidError(f'poll_interval "{shown}" is below minimum {durations.format_duration(LOWEST)}')
    if seconds > HIGHEST:
        raise InvalidError(f'poll_interval "{shown}" exceeds maximum {durations.format_duration(HIGHEST)}')
    return seconds


def _as_go_prints(seconds: Decimal) -> str:
    whole = int(seconds)
    nanoseconds = int((seconds - whole) * 10**9)
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return durations.format_duration(whole).removesuffix("s") + fraction + "s"
