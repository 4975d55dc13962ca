"""From a token or a session cookie to its owner, with a look-up that is remembered for seconds (design 9, 19).

What this server changes it forgets at once; what another server changes is seen after TTL. The database being away is
DatabaseUnavailableError, never "unknown": nobody throws a good token away. Nothing here knows a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from gocdnext.auth import tokens
from gocdnext.auth.identity import Subject
from gocdnext.auth.roles import role_of
from gocdnext.db import queries
from gocdnext.db.pool import Database, Work

sql = queries.load("callers")

TTL = 5.0
"""Seconds that a look-up is good for."""
MOST = 10_000
"""Look-ups that are remembered; beyond that the oldest is forgotten."""
TOUCH = timedelta(minutes=1)
"""How exact `last_used_at` and `last_seen_at` are: one write a minute for each token in use."""

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
Key = str | bytes
_Found = tuple[Subject | None, datetime | None]
"""The owner, and until when what was presented is good."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The outcome of a look-up. `subject` is None for what nobody owns, and for owners that are shut out."""

    subject: Subject | None
    ends: datetime | None
    looked_at: float


class Callers:
    """Looks owners up and remembers them. One for each server; `ticks` are monotonic seconds."""

    def __init__(
        self, db: Database, clock: Callable[[], datetime], ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._clock = clock
        self._ticks = ticks
        self._known: dict[Key, _Known] = {}
        self._generation = 0

    def forget(self) -> None:
        """Everything is looked up again: called after each change of an account, a session or a token.

        Such changes are rare and the look-ups cheap, so nothing is picked out. A look-up that is under way does not
        bring back what was true before.
        """
        self._generation += 1
        self._known.clear()

    async def by_token(self, token: str) -> Subject | None:
        """The owner of an API token; None when it is unknown, expired, revoked, or its owner is shut out."""
        presented = tokens.read(token)
        if presented is None:
            return None
        return await self._remembered(presented.hash, lambda conn: self._token(conn, presented))

    async def by_cookie(self, value: str) -> Subject | None:
        """The owner of a session cookie; None when it is unknown or over, or its owner is shut out."""
        key = tokens.cookie_hash(value)
        if key is None:
            return None
        return await self._remembered(key, lambda conn: self._session(conn, key))

    async def _remembered(self, key: Key, look: Work[_Found]) -> Subject | None:
        known = self._known.get(key)
        if known is None or self._ticks() - known.looked_at >= TTL:
            generation, began = self._generation, self._ticks()
            subject, ends = await self._db.run(look)
            known = _Known(subject, ends, began)
            if generation == self._generation:
                self._remember(key, known)
        if known.ends is not None and known.ends <= self._clock():
            return None
        return known.subject

    def _remember(self, key: Key, known: _Known) -> None:
        self._known.pop(key, None)
        while len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = known

    async def _token(self, conn: Connection, presented: tokens.Presented) -> _Found:
        row = await conn.fetchrow(sql.by_token, presented.hash)
        if row is None or (row["service_account_id"] is not None) != presented.for_service_account:
            return None, None
        subject = _subject(row, row["user_id"] or row["service_account_id"])
        if row["revoked_at"] is not None or subject is None:
            return None, None
        await self._touch(conn, sql.token_used, row["token_id"], row)
        return subject, row["expires_at"]

    async def _session(self, conn: Connection, key: bytes) -> _Found:
        row = await conn.fetchrow(sql.by_session, key)
        subject = None if row is None else _subject(row, row["user_id"])
        if row is None or subject is None:
            if row is not None and row["disabled_at"] is not None:
                # Somebody has shut the account out beside us (contract-admin 1.3).
                await conn.execute(sql.end_session, key)
            return None, None
        await self._touch(conn, sql.session_seen, key, row)
        return subject, row["expires_at"]

    async def _touch(self, conn: Connection, statement: str, key: UUID | bytes, row: asyncpg.Record) -> None:
        now, seen = self._clock(), row["seen_at"]
        over = row["expires_at"] is not None and row["expires_at"] <= now
        if not over and (seen is None or now - seen >= TOUCH):
            await conn.execute(statement, key, now)


def _subject(row: asyncpg.Record, owner: UUID) -> Subject | None:
    """The caller of a row; None for one that is shut out or whose role says nothing."""
    role = role_of(row["role"])
    if row["disabled_at"] is not None or role is None:
        return None
    return Subject(
        name=row["name"],
        role=role,
        provider=row["provider"],
        id=owner,
        email=row["email"],
        groups=frozenset(row["groups"]),
    )
