"""The keys that job identity tokens are signed with: made at first use, kept sealed, rotated, published (contract-admin 12).

Trio side; every method may raise DatabaseUnavailableError. A private key is in the database sealed, in the memory of this
module, and nowhere else; of a key that signs no more only the public part is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import asyncpg
import structlog
import trio
from joserfc import jwt
from joserfc.jwk import RSAKey

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import UnavailableError
from gocdnext.secrets import resealing
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring, Sealed, UnsealError

_SQL = queries.load("oidc")
_log = structlog.get_logger("oidc")
ALG: Final = "RS256"
BITS = 2048
SKEW = timedelta(seconds=60)
"""How far the clock of a verifier may be behind ours: tokens are valid from so long before they are made."""
GRACE = timedelta(seconds=600)
"""How much longer than its last token a retired key is published."""
REMEMBERED = 30.0
"""Seconds that the signing key is used without asking the database: the longest that a missed word of a rotation lasts."""
GRACEFUL, EMERGENCY = "graceful", "emergency"
NO_BASE = "this server issues no identity tokens: set GOCDNEXT_PUBLIC_BASE to the address that verifiers reach it by"


@dataclass(frozen=True, slots=True)
class Signer:
    """A key in hand, ready to sign without any wait."""

    kid: str
    issuer: str
    ttl: timedelta
    clock: Callable[[], datetime]
    key: RSAKey = field(repr=False)

    def __call__(self, claims: Mapping[str, str], audience: Sequence[str]) -> str:
        """A token with these claims, for these audiences: one as a text, several as a list."""
        now = self.clock()
        payload: dict[str, object] = {
            "iss": self.issuer,
            **claims,
            "aud": audience[0] if len(audience) == 1 else list(audience),
            "iat": int(now.timestamp()),
            "nbf": int((now - SKEW).timestamp()),
            "exp": int((now + self.ttl).timestamp()),
            "jti": str(uuid4()),
        }
        return jwt.encode({"alg": ALG, "kid": self.kid, "typ": "JWT"}, payload, self.key, algorithms=[ALG])


class SigningKeys:
    """The keys of one issuer. `issuer` is the public base of the server, without a slash at its end; empty for none."""

    def __init__(
        self,
        db: Database,
        keyring: Keyring,
        issuer: str,
        ttl: timedelta,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db = db
        self._keyring = keyring
        self.issuer = issuer
        self._ttl = ttl
        self._clock = clock
        self._new_id = new_id
        self._lock = trio.Lock()
        self._signer: Signer | None = None
        self._published: list[asyncpg.Record] = []
        self._until = {"signer": 0.0, "published": 0.0}
        self._generation = 0

    def forget(self) -> None:
        """A key was rotated, here or elsewhere: the next use asks the database."""
        self._until = {"signer": 0.0, "published": 0.0}
        self._generation += 1

    async def asked_for(self, run_id: UUID) -> bool:
        """Whether jobs of the run ask for tokens."""
        return bool(await self._db.fetchval(_SQL.asked_for, run_id))

    async def signer(self) -> Signer:
        """The key that signs; the first call of all makes one. Raises UnavailableError, whose text is for people."""
        if not self.issuer:
            raise UnavailableError(NO_BASE)
        async with self._lock:
            if self._signer is None or not self._fresh("signer"):
                generation = self._generation
                self._signer = self._opened(await self._ensure())
                self._remember("signer", generation)
            return self._signer

    async def published(self) -> list[asyncpg.Record]:
        """The public parts that verifiers are given, the signing key's first; there is one from the first call on."""
        async with self._lock:
            if not self._fresh("published"):
                generation = self._generation
                await self._ensure()
                self._published = await self._db.fetch(_SQL.published, self._clock())
                self._remember("published", generation)
            return self._published

    async def list(self) -> list[asyncpg.Record]:
        """All keys, newest first."""
        return await self._db.fetch(_SQL.list)

    async def rotate(self, mode: str) -> str:
        """A new key signs from now on; its kid. `emergency` withdraws the old one at once, GRACEFUL leaves it published
        until its last token has ended."""
        made = await self._made()
        now = self._clock()

        async def work(conn: Connection) -> None:
            await conn.execute(_SQL.lock_rotation)
            if mode == EMERGENCY:
                await conn.execute(_SQL.revoke, now)
            else:
                await conn.execute(_SQL.retire, now, now + self._ttl + GRACE)
            await conn.execute(_SQL.keep, *made)
            await conn.execute(_SQL.notify_rotated, made.kid)

        try:
            await self._db.transaction(work)
        finally:
            # Also after an error: a commit may have happened although nobody told us.
            self.forget()
        _log.warning("signing key rotated", kid=made.kid, mode=mode)
        return made.kid

    # ---- inside ------------------------------------------------------------------------------------

    def _fresh(self, what: str) -> bool:
        return trio.current_time() < self._until[what]

    def _remember(self, what: str, generation: int) -> None:
        if generation == self._generation:  # else: rotated while it was read, good for this once
            self._until[what] = trio.current_time() + REMEMBERED

    def _opened(self, row: asyncpg.Record) -> Signer:
        try:
            text = self._keyring.open(Sealed(row["key_id"], row["private_sealed"]), purpose(row["kid"]))
        except UnsealError as error:
            raise UnavailableError(
                f"the key that signs identity tokens cannot be opened: {error}; or make a new one: `gocdnext oidc rotate`"
            ) from None
        return Signer(row["kid"], self.issuer, self._ttl, self._clock, RSAKey.import_key(text))

    async def _ensure(self) -> asyncpg.Record:
        """The row of the signing key. Where two servers make the first one at once, one is kept."""
        row = await self._db.fetchrow(_SQL.active)
        while row is None:
            await self._db.execute(_SQL.keep, *await self._made())
            row = await self._db.fetchrow(_SQL.active)
        return row

    async def _made(self) -> _Made:
        # Up to half a second of pure computing, which holds no lock of the interpreter.
        key = await trio.to_thread.run_sync(RSAKey.generate_key, BITS)
        kid, public = key.thumbprint(), key.as_dict(private=False)
        sealed = self._keyring.seal(key.as_pem(private=True).decode(), purpose(kid))
        n, e = str(public["n"]), str(public["e"])
        return _Made(self._new_id(), kid, n, e, sealed.data, sealed.key_id, self._clock())


class _Made(NamedTuple):
    """A new key, as the parameters of `keep`."""

    id: UUID
    kid: str
    public_n: str
    public_e: str
    sealed: bytes
    key_id: str
    created_at: datetime


async def reseal(db: Database, keyring: Keyring) -> Resealed:
    """Seals everything with the newest key that is sealed with another (`resealing.reseal`)."""
    return await resealing.reseal(db, keyring, _SQL.under_other_keys, _SQL.sealed_anew, lambda row: purpose(row["kid"]))


def purpose(kid: str) -> str:
    """What a private key is sealed for."""
    return f"oidc key {kid}"
