"""API tokens of people and of service accounts (contract-admin 3.3 and 4). The text of a token is known once: here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from gocdnext.auth import tokens, words
from gocdnext.auth.room import Room
from gocdnext.db import queries
from gocdnext.errors import ConflictError, InvalidError, NotFoundError

sql = queries.load("tokens")

MOST = 500
"""Tokens of one owner that were not revoked."""

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose tokens: a person's or a service account's, exactly one of the two."""

    user_id: UUID | None = None
    service_account_id: UUID | None = None


async def listed(room: Room, owner: Owner, limit: int | None, offset: int) -> list[asyncpg.Record]:
    """The owner's tokens, newest first, also those that are over."""
    if owner.user_id is not None:
        return await room.db.fetch(sql.of_user, owner.user_id, limit, offset)
    return await room.db.fetch(sql.of_service_account, owner.service_account_id, limit, offset)


async def create(room: Room, owner: Owner, name: str, expires_at: datetime | None) -> tuple[asyncpg.Record, str]:
    """A new token and its text. Raises InvalidError, NotFoundError for an unknown owner, ConflictError for too many."""
    name, now = words.name(name), room.clock()
    if expires_at is not None and expires_at <= now:
        raise InvalidError("expires_at must be in the future")
    made = tokens.make(for_service_account=owner.service_account_id is not None)

    async def work(conn: Connection) -> asyncpg.Record:
        if await conn.fetchval(sql.count_of, owner.user_id, owner.service_account_id) >= MOST:
            raise ConflictError(f"there are {MOST} tokens already; revoke some")
        row = await conn.fetchrow(
            sql.create,
            room.new_id(),
            owner.user_id,
            owner.service_account_id,
            name,
            made.hash,
            made.prefix,
            expires_at,
            now,
        )
        assert row is not None
        return row

    try:
        row = await room.db.transaction(work)
    except asyncpg.ForeignKeyViolationError:
        raise NotFoundError("not found") from None
    return row, made.plaintext


async def revoke(room: Room, owner: Owner, token_id: UUID) -> None:
    """Revokes a token of this owner, at once here and within seconds elsewhere. Raises NotFoundError."""
    done = await room.change(
        lambda conn: conn.fetchval(sql.revoke, token_id, owner.user_id, owner.service_account_id, room.clock())
    )
    if done is None:
        raise NotFoundError("not found")
