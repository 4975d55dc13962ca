"""The secrets of a test's database, sealed with a key that everybody knows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from gocdnext.db.pool import Database
from gocdnext.secrets.sealing import KEY_BYTES, Keyring
from gocdnext.secrets.store import Secrets

KEY = bytes(range(KEY_BYTES))
KEYRING = Keyring([KEY])
NOW = datetime(2026, 4, 28, 13, 0, tzinfo=UTC)


def secrets_of(db: Database, clock: Callable[[], datetime] = lambda: NOW) -> Secrets:
    return Secrets(db, KEYRING, clock=clock, new_id=uuid4)
