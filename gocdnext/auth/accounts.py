"""People: local accounts made, given roles, shut out and removed (contract-admin 7.1); what they save for themselves.

An account that is shut out, or whose role changes, loses its sessions in the same transaction; its tokens follow at the
next request. There is always an admin who can sign in. Records are the columns of `users` without the hash.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from gocdnext.auth import passwords, words
from gocdnext.auth.room import Room
from gocdnext.auth.setup import SetupCode
from gocdnext.db import queries
from gocdnext.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError

sql = queries.load("accounts")
LAST_ADMIN = "this is the last admin who can sign in; make another one first"

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


async def users(room: Room, limit: int | None, offset: int) -> list[asyncpg.Record]:
    """Accounts by e-mail."""
    return await room.db.fetch(sql.users, limit, offset)


async def user(room: Room, user_id: UUID) -> asyncpg.Record:
    """One account. Raises NotFoundError."""
    row = await room.db.fetchrow(sql.user_by_id, user_id)
    if row is None:
        raise NotFoundError("user not found")
    return row


async def create(room: Room, email: str, name: str, role: str, password: str) -> asyncpg.Record:
    """A local account. Raises InvalidError, ConflictError when the e-mail has one, UnavailableError when busy."""
    email = words.email(email)
    if not password:
        raise InvalidError("password is required")
    passwords.check_policy(password)
    role = words.role(role, f'store: invalid role "{role[:40]}"')
    name = words.name(name, required=False)
    hashed = await room.hasher.hash(password)
    row = await room.db.fetchrow(sql.create_local, room.new_id(), email, name, role, hashed, room.clock())
    if row is None:
        raise ConflictError("user already exists")
    return row


async def set_role(room: Room, user_id: UUID, role: str, by: UUID | None) -> tuple[str, asyncpg.Record]:
    """Gives an account another role; returns the old one and the account.

    Raises InvalidError, NotFoundError, ForbiddenError for admins who demote themselves, ConflictError for the last one.
    """
    if not role.strip():
        raise InvalidError("role is required")
    role = words.role(role, f'store: invalid role: "{role[:40]}"')
    if user_id == by and role != "admin":
        raise ForbiddenError("cannot demote yourself")

    async def work(conn: Connection) -> tuple[str, asyncpg.Record]:
        before = await _locked(room, conn, user_id, keeps_admin=role == "admin")
        row = await conn.fetchrow(sql.set_role, user_id, role, room.clock())
        assert row is not None
        if before["role"] != role:
            await conn.execute(sql.close_sessions, user_id)
        return before["role"], row

    return await room.change(work)


async def set_disabled(room: Room, user_id: UUID, disabled: bool, by: UUID | None) -> None:
    """Shuts an account out, or lets it in again. Raises NotFoundError, ForbiddenError for oneself, ConflictError."""
    if disabled and user_id == by:
        raise ForbiddenError("cannot disable yourself")
    now = room.clock()

    async def work(conn: Connection) -> None:
        before = await _locked(room, conn, user_id, keeps_admin=not disabled)
        since: datetime | None = (before["disabled_at"] or now) if disabled else None
        await conn.execute(sql.set_disabled, user_id, since, now)
        if disabled:
            await conn.execute(sql.close_sessions, user_id)

    await room.change(work)


async def delete(room: Room, user_id: UUID, by: UUID | None) -> bool:
    """Removes an account and all that belongs to it; False when there was none.

    Raises ForbiddenError for oneself, ConflictError for the last admin.
    """
    if user_id == by:
        raise ForbiddenError("cannot delete yourself")

    async def work(conn: Connection) -> bool:
        try:
            await _locked(room, conn, user_id, keeps_admin=False)
        except NotFoundError:
            return False
        await conn.execute(sql.delete_user, user_id)
        return True

    return await room.change(work)


async def has_local(room: Room) -> bool:
    """Whether somebody may sign in with a password."""
    return bool(await room.db.fetchval(sql.has_local))


async def has_admin(room: Room) -> bool:
    """Whether an admin is there who is not shut out."""
    return bool(await room.db.fetchval(sql.has_admin))


async def first_admin(room: Room, code: SetupCode, said: str, email: str, name: str, password: str) -> asyncpg.Record:
    """Makes the first admin for whoever knows the code, and spends the code.

    Nothing is worked on before the code is right. Raises ForbiddenError, InvalidError, ConflictError when there is one.
    """
    if not code.matches(said):
        raise ForbiddenError("wrong set-up code; `gocdnext setup-code` on the server shows it")
    email, name = words.email(email), words.name(name, required=False)
    passwords.check_policy(password)
    if await has_admin(room):
        raise ConflictError("there is an admin already: sign in")
    hashed = await room.hasher.hash(password)

    async def work(conn: Connection) -> asyncpg.Record:
        await conn.execute(sql.lock_setup)
        if await conn.fetchval(sql.has_admin):
            raise ConflictError("there is an admin already: sign in")
        row = await conn.fetchrow(sql.create_local, room.new_id(), email, name, "admin", hashed, room.clock())
        if row is None:
            raise ConflictError("user already exists")
        return row

    made = await room.change(work)
    code.spend()
    return made


async def preferences(room: Room, user_id: UUID) -> asyncpg.Record | None:
    """What an account has saved for itself: preferences, updated_at; None when nothing ever was."""
    return await room.db.fetchrow(sql.preferences, user_id)


async def save_preferences(room: Room, user_id: UUID, document: dict[str, Any]) -> datetime:
    """Replaces it; returns when."""
    now = room.clock()
    await room.db.execute(sql.save_preferences, user_id, document, now)
    return now


async def _locked(room: Room, conn: Connection, user_id: UUID, *, keeps_admin: bool) -> asyncpg.Record:
    """The account, locked. Raises NotFoundError; ConflictError when it is the last admin and would be no more.

    The admins are locked first and in order: two changes at once cannot each take the other for the one who stays.
    """
    admins = [row["id"] for row in await conn.fetch(sql.lock_admins, room.ways_in)]
    row = await conn.fetchrow(sql.lock_user, user_id)
    if row is None:
        raise NotFoundError("user not found")
    if not keeps_admin and admins == [user_id]:
        raise ConflictError(LAST_ADMIN)
    return row
