"""Groups of people whom gates ask for (contract-admin 7.2). A group gives no rights but to vote where it is named."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from gocdnext.auth import words
from gocdnext.auth.room import Room
from gocdnext.db import queries
from gocdnext.errors import ConflictError, NotFoundError

sql = queries.load("groups")


async def listed(room: Room, limit: int | None, offset: int) -> list[asyncpg.Record]:
    """All groups by name, with `member_count`."""
    return await room.db.fetch(sql.list, limit, offset)


async def create(room: Room, name: str, description: str, by: UUID | None) -> asyncpg.Record:
    """A new group. Raises InvalidError, ConflictError for a name that is taken."""
    name, description = words.group_name(name), words.description(description)
    row = await room.db.fetchrow(sql.create, room.new_id(), name, description, by, room.clock())
    if row is None:
        raise ConflictError("group name already exists")
    return row


async def change(room: Room, group_id: UUID, name: str, description: str) -> None:
    """Another name and description; gates that name the old one go on naming it.

    Raises InvalidError, NotFoundError, ConflictError for a name that is taken.
    """
    name, description = words.group_name(name), words.description(description)
    try:
        found = await room.change(lambda conn: conn.fetchval(sql.change, group_id, name, description, room.clock()))
    except asyncpg.UniqueViolationError:
        raise ConflictError("group name already exists") from None
    if found is None:
        raise NotFoundError("group not found")


async def delete(room: Room, group_id: UUID) -> bool:
    """Removes a group; False when there was none."""
    return str(await room.change(lambda conn: conn.execute(sql.delete, group_id))) != "DELETE 0"


async def members(room: Room, group_id: UUID, limit: int | None, offset: int) -> list[asyncpg.Record]:
    """Who is in a group, by name; an unknown group has nobody."""
    return await room.db.fetch(sql.members, group_id, limit, offset)


async def add(room: Room, group_id: UUID, user_id: UUID, by: UUID | None) -> None:
    """Puts a person into a group, once. Raises NotFoundError for a group or a person that is not there."""
    found = await room.db.fetchrow(sql.has, group_id, user_id)
    assert found is not None
    if not found["has_group"]:
        raise NotFoundError("group not found")
    if not found["has_user"]:
        raise NotFoundError("user not found")
    try:
        await room.change(lambda conn: conn.execute(sql.add_member, group_id, user_id, by, room.clock()))
    except asyncpg.ForeignKeyViolationError:  # one of the two went in between
        raise NotFoundError("group not found") from None


async def remove(room: Room, group_id: UUID, user_id: UUID) -> None:
    """Takes a person out of a group; nothing when they were not in it."""
    await room.change(lambda conn: conn.execute(sql.remove_member, group_id, user_id))
