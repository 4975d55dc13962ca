"""Signing in with a password, signing out, and changing the password (contract-admin 1.3, 2.5, 2.8).

Known and unknown accounts cost the same work. A session always gets a new cookie: one that was there before the sign-in
is ended, whoever put it there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from gocdnext.auth import passwords, tokens
from gocdnext.auth.identity import NotAuthenticatedError
from gocdnext.auth.room import Room
from gocdnext.db import queries
from gocdnext.errors import ForbiddenError

sql = queries.load("accounts")

LIFETIME = timedelta(hours=24)
"""From the sign-in; use does not make it longer."""
MOST = 50
"""Sessions of one account; the oldest ends when one more begins."""
USER_AGENT = 500
"""Characters of the browser's name that are kept."""

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


async def sign_in(room: Room, email: str, password: str) -> asyncpg.Record:
    """The account behind an e-mail and a password.

    Raises NotAuthenticatedError for either being wrong, ForbiddenError for an account that is shut out,
    TooManyTriesError, UnavailableError when too many sign in at once.
    """
    async with _one_try(room, email):
        row = await room.db.fetchrow(sql.local_user, email)
        stored = None if row is None else row["password_hash"]
        if not await room.hasher.verify(password, stored) or row is None or stored is None:
            raise NotAuthenticatedError("invalid email or password")
    if row["disabled_at"] is not None:
        raise ForbiddenError("account disabled")
    if not passwords.is_current(stored):
        better = await room.hasher.hash(password)
        await room.db.execute(sql.upgrade_password, row["id"], stored, better)
    return row


async def open_session(
    room: Room, user_id: UUID, user_agent: str, replacing: str | None
) -> tuple[str, datetime, asyncpg.Record]:
    """A new session; returns its cookie, its end and the account. The session of the cookie `replacing` ends.

    Also for other ways in than passwords. Raises ForbiddenError when the account was shut out or removed meanwhile.
    """
    cookie, now = tokens.make_cookie(), room.clock()
    ends = now + LIFETIME
    key, before = tokens.cookie_hash(cookie), tokens.cookie_hash(replacing or "")
    agent = user_agent.replace("\0", "")[:USER_AGENT]

    async def work(conn: Connection) -> asyncpg.Record:
        row = await conn.fetchrow(sql.lock_user, user_id)
        if row is None or row["disabled_at"] is not None:
            raise ForbiddenError("account disabled")
        if before is not None:
            await conn.execute(sql.close_session, before)
        await conn.execute(sql.open_session, key, user_id, agent, now, ends)
        await conn.execute(sql.trim_sessions, user_id, now, MOST)
        account: asyncpg.Record | None = await conn.fetchrow(sql.logged_in, user_id, now)
        assert account is not None
        return account

    account = await room.change(work)
    return cookie, ends, account


async def close_session(room: Room, cookie: str) -> UUID | None:
    """Ends the session of a cookie; whose it was, or None when there was none."""
    key = tokens.cookie_hash(cookie)
    if key is None:
        return None
    user_id: UUID | None = await room.change(lambda conn: conn.fetchval(sql.close_session, key))
    return user_id


async def change_password(room: Room, user_id: UUID, current: str, new: str) -> None:
    """Gives a local account another password; its sessions stay (2.8).

    Raises ForbiddenError for accounts of a provider, NotAuthenticatedError for a wrong current one, TooManyTriesError,
    InvalidError for the policy.
    """
    row = await room.db.fetchrow(sql.password_hash, user_id)
    if row is None or row["provider"] != "local" or row["password_hash"] is None:
        raise ForbiddenError("password change is only for local accounts")
    async with _one_try(room, row["email"]):
        if not await room.hasher.verify(current, row["password_hash"]):
            raise NotAuthenticatedError("current password incorrect")
    passwords.check_policy(new)
    hashed = await room.hasher.hash(new)
    await room.db.execute(sql.set_password, user_id, hashed, room.clock())


@asynccontextmanager
async def _one_try(room: Room, email: str) -> AsyncIterator[None]:
    """A try of a password: right when the block ends, wrong when it says so, and no try at all when it fails."""
    begun = room.lockout.begin(email)
    try:
        yield
    except NotAuthenticatedError:
        raise
    except BaseException:
        room.lockout.withdraw(email, begun)
        raise
    room.lockout.succeeded(email)
