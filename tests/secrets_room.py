"""The secrets of a test's database, sealed with a key that everybody knows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from gocdnext.db.pool import Database
from gocdnext.secrets.sealing import KEY_BYTES, Keyring
from gocdnext.secrets.signing import SigningKeys
from gocdnext.secrets.store import Secrets

KEY = bytes(range(KEY_BYTES))
KEYRING = Keyring([KEY])
NOW = datetime(2026, 4, 28, 13, 0, tzinfo=UTC)


BASE = "https://ci.acme.example"
TTL = timedelta(hours=1)


def signing_keys_of(
    db: Database, clock: Callable[[], datetime] = lambda: NOW, *, base: str = BASE, keyring: Keyring = KEYRING
) -> SigningKeys:
    return SigningKeys(db, keyring, base, TTL, clock=clock, new_id=uuid4)


def secrets_of(
    db: Database, clock: Callable[[], datetime] = lambda: NOW, *, base: str = BASE, keyring: Keyring = KEYRING
) -> Secrets:
    return Secrets(db, keyring, signing_keys_of(db, clock, base=base, keyring=keyring), clock=clock, new_id=uuid4)
