"""What the server and its agents sign in with at hosts of repositories: kept sealed, one for each provider and host
(contract-admin 7.9). Which repository gets which is `materials.access`.

Trio side; every function may raise DatabaseUnavailableError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import InvalidError
from gocdnext.secrets import resealing
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring, Sealed, UnsealError

PROVIDERS = ("github", "gitlab", "bitbucket")
MAX_TOKEN = 8 * 1024
"""Characters."""
MAX_NAME = 200
MAX_URL = 2048
_SQL = queries.load("scm_credentials")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SHOWN = 4
"""Characters at each end of a token that are shown."""


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What somebody wants kept for a host."""

    provider: str
    host: str
    api_base: str = ""
    display_name: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """A credential as it is kept. `preview` is enough to tell two tokens apart, and empty for one that cannot be opened."""

    row: asyncpg.Record
    preview: str


async def listed(db: Database, keyring: Keyring, limit: int | None, offset: int) -> list[Kept]:
    """By provider and host."""
    return [Kept(row, _preview(keyring, row)) for row in await db.fetch(_SQL.list, limit, offset)]


async def keep(
    db: Database, keyring: Keyring, new: NewCredential, now: datetime, new_id: Callable[[], UUID]
) -> asyncpg.Record:
    """Keeps a credential, in place of the one for the same provider and host. Raises InvalidError."""
    clean = _checked(new)
    sealed = keyring.seal(clean.token, purpose(clean.provider, clean.host))
    row = await db.fetchrow(
        _SQL.set,
        new_id(),
        clean.provider,
        clean.host,
        clean.api_base,
        clean.display_name,
        sealed.data,
        sealed.key_id,
        now,
    )
    assert row is not None
    return row


async def delete(db: Database, credential_id: UUID) -> bool:
    """Removes a credential; False when there was none."""
    return await db.fetchval(_SQL.delete, credential_id) is not None


async def reseal(db: Database, keyring: Keyring) -> Resealed:
    """Seals everything with the newest key that is sealed with another (`resealing.reseal`)."""
    return await resealing.reseal(
        db, keyring, _SQL.under_other_keys, _SQL.sealed_anew, lambda row: purpose(row["provider"], row["host"])
    )


def opened(keyring: Keyring, row: asyncpg.Record) -> str:
    """The token of a row. Raises UnsealError."""
    return keyring.open(Sealed(row["key_id"], row["sealed"]), purpose(row["provider"], row["host"]))


def purpose(provider: str, host: str) -> str:
    """What a token is sealed for: that of another host does not open in its place."""
    return f"scm credential {provider} {host}"


def _preview(keyring: Keyring, row: asyncpg.Record) -> str:
    try:
        token = opened(keyring, row)
    except UnsealError:
        return ""
    return "•" * len(token) if len(token) <= 2 * _SHOWN else f"{token[:_SHOWN]}…{token[-_SHOWN:]}"


def _checked(new: NewCredential) -> NewCredential:
    """What is kept. Raises InvalidError with the words of 7.9; never with the token."""
    provider, host = new.provider.strip().lower(), new.host.strip().lower()
    base, name, token = new.api_base.strip(), new.display_name.strip(), new.token.strip()
    if provider not in PROVIDERS:
        raise InvalidError("provider must be gitlab or bitbucket, or github")
    if not host:
        raise InvalidError("host is required")
    if not _HOST.fullmatch(host):
        raise InvalidError("host must be the name of a host, such as git.acme.example, without a scheme and a path")
    if not token:
        raise InvalidError("auth_ref is required")
    if token.startswith("-----BEGIN"):
        raise InvalidError("auth_ref must be a token; the key of a GitHub App belongs to the integrations")
    if len(token) > MAX_TOKEN or _CONTROL.search(token) or not token.isascii():
        raise InvalidError(f"auth_ref must be one line of at most {MAX_TOKEN} ASCII characters")
    if len(name) > MAX_NAME or _CONTROL.search(name):
        raise InvalidError(f"display_name must be one line of at most {MAX_NAME} characters")
    if base and not _is_base(base):
        raise InvalidError("api_base must be an http or https address without a user name and a query")
    return NewCredential(provider, host, base.rstrip("/"), name, token)


def _is_base(text: str) -> bool:
    if len(text) > MAX_URL or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return bool(
            parts.scheme in ("http", "https")
            and parts.hostname
            and parts.username is None
            and not (parts.query or parts.fragment)
        )
    except ValueError:
        return False
