"""The secrets that webhooks are signed with: one for each bound repository, made here, sealed at rest (contract-admin 9.2).

Asyncio code on one raw connection, but for `reseal`. A secret is told once, by whoever made or set it.
"""

from __future__ import annotations

import secrets
from uuid import UUID

import asyncpg
import structlog

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.secrets.sealing import Keyring, Sealed, UnsealError

_SQL = queries.load("webhooks")
_log = structlog.get_logger("secrets")
_BYTES = 32
RESEAL_BATCH = 200


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


async def reseal(db: Database, keyring: Keyring) -> int:
    """Seals with the newest key what is sealed with another; how many were. What cannot be opened stays as it is."""
    done, last = 0, UUID(int=0)
    while rows := await db.fetch(_SQL.under_other_keys, keyring.newest, last, RESEAL_BATCH):
        for row in rows:
            try:
                secret = opened(keyring, row)
            except UnsealError as error:
                _log.error("a webhook secret cannot be sealed anew", source_id=str(row["id"]), why=str(error))
                continue
            sealed = keyring.seal(secret or "", _purpose(row["id"]))
            # Nothing is overwritten that somebody set meanwhile.
            await db.execute(_SQL.sealed_anew, row["id"], row["webhook_secret"], sealed.data, sealed.key_id)
            done += 1
        last = rows[-1]["id"]
    return done


def _purpose(source_id: UUID) -> str:
    return f"webhook secret {source_id}"
