"""Sealing anew with the newest key, whatever is sealed: the loop that secrets and webhook secrets share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog

from gocdnext.db.pool import Database
from gocdnext.secrets.sealing import Keyring, Sealed, UnsealError

BATCH = 200
_log = structlog.get_logger("secrets")


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many values were sealed anew, and which ones could not be opened (what each is for, never a value)."""

    done: int = 0
    unreadable: tuple[str, ...] = ()

    def __add__(self, other: Resealed) -> Resealed:
        return Resealed(self.done + other.done, self.unreadable + other.unreadable)


async def reseal(
    db: Database, keyring: Keyring, pending: str, keep: str, purpose: Callable[[asyncpg.Record], str]
) -> Resealed:
    """Seals with the newest key what is sealed with another. What cannot be opened stays as it is.

    `pending` is the statement for a batch (newest key's id, last id, size) with `id`, `sealed`, `key_id`; `keep` the one
    that takes a value's new form in place of its old one (id, old, new, key's id). Raises DatabaseUnavailableError.
    """
    done, last = 0, UUID(int=0)
    unreadable: list[str] = []
    while rows := await db.fetch(pending, keyring.newest, last, BATCH):
        for row in rows:
            what = purpose(row)
            try:
                value = keyring.open(Sealed(row["key_id"], row["sealed"]), what)
            except UnsealError as error:
                _log.error("a value cannot be sealed anew", what=what, why=str(error))
                unreadable.append(what)
                continue
            sealed = keyring.seal(value, what)
            # Nothing is overwritten that somebody set meanwhile.
            await db.execute(keep, row["id"], row["sealed"], sealed.data, sealed.key_id)
            done += 1
        last = rows[-1]["id"]
    return Resealed(done, tuple(unreadable))
