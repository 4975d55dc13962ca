"""Service accounts: callers that are no people (contract-admin 4). Records are the columns of the table."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from gocdnext.auth import words
from gocdnext.auth.room import Room
from gocdnext.db import queries
from gocdnext.errors import ConflictError, NotFoundError

sql = queries.load("service_accounts")
_ROLE = "role must be one of: admin, maintainer, viewer"


async def listed(room: Room, limit: int | None, offset: int) -> list[asyncpg.Record]:
    """All of them, newest first."""
    return await room.db.fetch(sql.list, limit, offset)


async def one(room: Room, account_id: UUID) -> asyncpg.Record:
    """One of them. Raises NotFoundError."""
    row = await room.db.fetchrow(sql.one, account_id)
    if row is None:
        raise NotFoundError("not found")
    return row


async def create(room: Room, name: str, description: str, role: str, by: UUID | None) -> asyncpg.Record:
    """A new one. Raises InvalidError, ConflictError for a name that is taken."""
    name, role = words.name(name), words.role(role, _ROLE)
    description = words.description(description)
    row = await room.db.fetchrow(sql.create, room.new_id(), name, description, role, by, room.clock())
    if row is None:
        raise ConflictError("name already taken")
    return row


async def change(room: Room, account_id: UUID, description: str, role: str) -> None:
    """Another description and role. Raises InvalidError, NotFoundError."""
    role, description = words.role(role, _ROLE), words.description(description)
    found = await room.change(lambda conn: conn.fetchval(sql.change, account_id, description, role, room.clock()))
    if found is None:
        raise NotFoundError("not found")


async def set_disabled(room: Room, account_id: UUID, disabled: bool) -> None:
    """Shuts one out with all its tokens, or lets it in again. Raises NotFoundError."""
    now = room.clock()
    found = await room.change(lambda conn: conn.fetchval(sql.set_disabled, account_id, now if disabled else None, now))
    if found is None:
        raise NotFoundError("not found")


async def delete(room: Room, account_id: UUID) -> bool:
    """Removes one with its tokens; False when there was none."""
    return str(await room.change(lambda conn: conn.execute(sql.delete, account_id))) != "DELETE 0"
