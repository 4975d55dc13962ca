"""The secrets that webhooks are signed with: one for each bound repository, made here, sealed at rest (contract-admin 9.2).

Asyncio code on one raw connection, but for `reseal`. A secret is told once, by whoever made or set it.
"""

from __future__ import annotations

import secrets
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.secrets import resealing
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring, Sealed

_SQL = queries.load("webhooks")
_BYTES = 32


def generated() -> str:
    """A new secret, 64 hex characters."""
    return secrets.token_hex(_BYTES)


async def keep(conn: Connection, keyring: Keyring, source_id: UUID, secret: str, *, replace: bool) -> bool:
    """Gives a source its secret; False when it has one and is to keep it."""
    sealed = keyring.seal(secret, _purpose(source_id))
    return await conn.fetchval(_SQL.set_secret, source_id, sealed.data, sealed.key_id, replace) is not None


def opened(keyring: Keyring, row: asyncpg.Record) -> str | None:
    """The secret of a source, or None when it has none. Raises UnsealError."""
    if row["webhook_secret"] is None:
        return None
    return keyring.open(Sealed(row["webhook_key_id"], row["webhook_secret"]), _purpose(row["id"]))


async def reseal(db: Database, keyring: Keyring) -> Resealed:
    """Seals everything with the newest key that is sealed with another (`resealing.reseal`)."""
    return await resealing.reseal(db, keyring, _SQL.under_other_keys, _SQL.sealed_anew, lambda row: _purpose(row["id"]))


def _purpose(source_id: UUID) -> str:
    return f"webhook secret {source_id}"
