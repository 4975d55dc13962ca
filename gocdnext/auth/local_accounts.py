"""Accounts made and passwords set from beside the server, by whoever may touch its database (contract-admin 17.2).

No request and no caller: this is the way back in when nobody can sign in. What holds for everybody holds here too: the
policy, and that an admin stays. A running server sees the change within seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg

from gocdnext.auth import accounts, passwords, words
from gocdnext.auth.roles import Role, role_of
from gocdnext.db import queries
from gocdnext.db.pool import Database, Work
from gocdnext.errors import ConflictError, NotFoundError, UnavailableError

sql = queries.load("accounts")

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


async def create_or_replace(db: Database, email: str, name: str, role: str, password: str) -> tuple[str, str]:
    """Makes a local account, or gives the one there is this role and password; returns its e-mail and role.

    `user` is maintainer, as in the reference's command. Sessions of an account that was there end.
    Raises InvalidError, ConflictError for demoting the last admin, UnavailableError without a schema.
    """
    email, name = words.email(email), words.name(name, required=False)
    wanted = role_of(role.strip().lower())
    role = words.role(
        role if wanted is not Role.MAINTAINER else "maintainer", "role must be admin, maintainer or viewer"
    )
    passwords.check_policy(password)
    hashed, now = passwords.hash_now(password), datetime.now(UTC)

    async def work(conn: Connection) -> None:
        admins = [row["id"] for row in await conn.fetch(sql.lock_admins, None)]
        found = await conn.fetchval(sql.upsert_local, uuid4(), email, name, role, hashed, now)
        if admins == [found] and role != "admin":
            raise ConflictError(accounts.LAST_ADMIN)
        await conn.execute(sql.close_sessions, found)

    await _with_schema(db, work)
    return email, role


async def reset_password(db: Database, email: str, password: str) -> str:
    """Gives a local account another password and ends its sessions; returns its e-mail.

    Raises InvalidError, NotFoundError, UnavailableError without a schema.
    """
    email = words.email(email)
    passwords.check_policy(password)
    hashed, now = passwords.hash_now(password), datetime.now(UTC)

    async def work(conn: Connection) -> None:
        row = await conn.fetchrow(sql.local_user, email)
        if row is None:
            raise NotFoundError(f"there is no local account {email}; make one with: gocdnext admin create-user")
        await conn.execute(sql.set_password, row["id"], hashed, now)
        await conn.execute(sql.close_sessions, row["id"])

    await _with_schema(db, work)
    return email


async def _with_schema(db: Database, work: Work[None]) -> None:
    try:
        await db.transaction(work)
    except asyncpg.UndefinedTableError:
        raise UnavailableError(
            "the database has no accounts yet: start this version of the server on it once"
        ) from None
