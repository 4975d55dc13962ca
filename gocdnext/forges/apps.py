"""The GitHub Apps that the server may act as: kept sealed by administrators, or given by the environment (contract-admin 7.8).

What is kept beats the environment; the first enabled one is *the* active App. Trio side; every method may raise
DatabaseUnavailableError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import structlog

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import ConflictError, DomainError, InvalidError, NotFoundError
from gocdnext.forges.github_app import API, App, read_key
from gocdnext.secrets import resealing
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring, Sealed, UnsealError

KIND = "github_app"
ENVIRONMENT = "env"
REFRESH = timedelta(seconds=30)
"""How long another server's change may go unnoticed."""
MAX_NAME = 200
MAX_URL = 2048
MAX_SECRET = 1024
MAX_APP_ID = 2**53
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SQL = queries.load("vcs_integrations")
_log = structlog.get_logger("forges")


@dataclass(frozen=True, slots=True)
class NewApp:
    """What somebody wants kept. An empty key or secret keeps the one that is there."""

    name: str
    kind: str
    app_id: int
    display_name: str = ""
    api_base: str = ""
    enabled: bool = False
    private_key: str = field(default="", repr=False)
    webhook_secret: str = field(default="", repr=False)


class BadAppsError(DomainError):
    """What is kept cannot be used; the set that was active before stays."""


class Apps:
    """The Apps of this process."""

    def __init__(self, db: Database, keyring: Keyring, environment: App | None, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._keyring = keyring
        self._environment = environment
        self._clock = clock
        self._active: list[App] = [] if environment is None else [environment]
        self._looked: datetime | None = None

    async def active(self) -> list[App]:
        """Those that may be used, the active one first. What cannot be read leaves the former set in force."""
        now = self._clock()
        if self._looked is None or now - self._looked >= REFRESH:
            self._looked = now
            try:
                await self.reload()
            except BadAppsError as error:
                _log.error("GitHub Apps stay as they were", why=str(error))
        return self._active

    async def reload(self) -> list[App]:
        """Reads them now. Raises BadAppsError, and leaves the former set in force then."""
        rows = await self._db.fetch(_SQL.list, True)
        found = [self._opened(row) for row in rows]
        if self._environment is not None:
            found.append(self._environment)
        self._active, self._looked = found, self._clock()
        return found

    async def listed(self) -> list[asyncpg.Record]:
        """All that are kept, by name."""
        return await self._db.fetch(_SQL.list, False)

    async def keep(self, new: NewApp, now: datetime, new_id: Callable[[], UUID]) -> asyncpg.Record:
        """Keeps an App under its name, in place of the former one. Raises InvalidError, ConflictError."""
        clean = _checked(new)

        async def work(conn: Connection) -> asyncpg.Record:
            # The id is what values are sealed for, so it has to be known before.
            identity = await conn.fetchval(_SQL.id_of, clean.name) or new_id()
            key = self._sealed(clean.private_key, key_purpose(identity))
            secret = self._sealed(clean.webhook_secret, secret_purpose(identity))
            row = await conn.fetchrow(
                _SQL.set,
                identity,
                clean.kind,
                clean.name,
                clean.display_name,
                clean.app_id,
                clean.api_base,
                clean.enabled,
                *key,
                *secret,
                now,
            )
            assert row is not None
            return row

        try:
            return await self._db.transaction(work)
        except asyncpg.UniqueViolationError:
            raise ConflictError("another enabled integration has this app_id: disable or delete it first") from None

    async def delete(self, identity: UUID) -> str:
        """Removes one; its name. Raises NotFoundError."""
        name: str | None = await self._db.fetchval(_SQL.delete, identity)
        if name is None:
            raise NotFoundError("vcs integration not found")
        return name

    def _sealed(self, text: str, purpose: str) -> tuple[bytes | None, str | None]:
        if not text:
            return None, None
        sealed = self._keyring.seal(text, purpose)
        return sealed.data, sealed.key_id

    def _opened(self, row: asyncpg.Record) -> App:
        try:
            if row["private_key"] is None:
                raise BadAppsError(f"integration {row['name']}: it has no private key: set one, or disable it")
            pem = self._keyring.open(Sealed(row["private_key_key_id"], row["private_key"]), key_purpose(row["id"]))
            secret = ""
            if row["webhook_secret"] is not None:
                sealed = Sealed(row["webhook_secret_key_id"], row["webhook_secret"])
                secret = self._keyring.open(sealed, secret_purpose(row["id"]))
            key = read_key(pem)
        except (UnsealError, InvalidError) as error:
            raise BadAppsError(f"integration {row['name']}: {error}") from None
        return App(
            row["app_id"],
            row["name"],
            key,
            row["api_base"] or API,
            secret,
            row["id"],
            row["display_name"],
            row["updated_at"],
        )


def of_environment(app_id: int, pem: str, pem_file: Path | None, api_base: str, webhook_secret: str) -> App | None:
    """The App that the operator gave in variables; None without any. Raises InvalidError for one that cannot be used."""
    if not app_id:
        return None
    try:
        text = pem or ("" if pem_file is None else pem_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise InvalidError(f"GOCDNEXT_GITHUB_APP_PRIVATE_KEY_FILE: {pem_file} cannot be read") from None
    if not text:
        raise InvalidError("GOCDNEXT_GITHUB_APP_ID needs GOCDNEXT_GITHUB_APP_PRIVATE_KEY or _PRIVATE_KEY_FILE")
    try:
        # In a variable, line breaks are often written as `\n`.
        key = read_key(text.replace("\\n", "\n"))
    except InvalidError as error:
        raise InvalidError(f"GOCDNEXT_GITHUB_APP_PRIVATE_KEY: {error}") from None
    return App(app_id, ENVIRONMENT, key, api_base or API, webhook_secret)


def key_purpose(identity: UUID) -> str:
    """What a private key is sealed for."""
    return f"github app key {identity}"


def secret_purpose(identity: UUID) -> str:
    """What a webhook secret is sealed for."""
    return f"github app webhook secret {identity}"


def _checked(new: NewApp) -> NewApp:
    """Raises InvalidError with the words of 7.8. Whether the key is one is told by the reload that follows."""
    name, base = new.name.strip(), new.api_base.strip().rstrip("/")
    if not name:
        raise InvalidError("store: vcs integration name required")
    if new.kind != KIND:
        raise InvalidError(f'store: unsupported vcs kind "{_shown(new.kind)}"')
    if not 0 < new.app_id < MAX_APP_ID:
        raise InvalidError("store: github_app requires a positive app_id")
    if name == ENVIRONMENT:
        raise InvalidError(f"the name {ENVIRONMENT} belongs to the App of the environment")
    for what, text in (("name", name), ("display_name", new.display_name)):
        if len(text) > MAX_NAME or _CONTROL.search(text):
            raise InvalidError(f"{what} must be one line of at most {MAX_NAME} characters")
    if len(new.webhook_secret) > MAX_SECRET or _CONTROL.search(new.webhook_secret):
        raise InvalidError(f"webhook_secret must be one line of at most {MAX_SECRET} characters")
    if "\0" in new.private_key:
        raise InvalidError("private_key must be a PEM text")
    if base and not is_base(base):
        raise InvalidError("api_base must be an http or https address without a user name and a query")
    return replace(new, name=name, display_name=new.display_name.strip(), api_base=base)


def is_base(text: str) -> bool:
    """Whether a text is the address of an API."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    plain = text.isprintable() and " " not in text and len(text) <= MAX_URL
    return good and plain and parts.username is None and not (parts.query or parts.fragment)


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:80]


async def reseal_keys(db: Database, keyring: Keyring) -> Resealed:
    """Seals private keys with the newest key where another sealed them (`resealing.reseal`)."""
    return await resealing.reseal(
        db, keyring, _SQL.keys_under_other_keys, _SQL.key_sealed_anew, lambda row: key_purpose(row["id"])
    )


async def reseal_secrets(db: Database, keyring: Keyring) -> Resealed:
    """As `reseal_keys`, for the secrets of webhooks."""
    return await resealing.reseal(
        db, keyring, _SQL.secrets_under_other_keys, _SQL.secret_sealed_anew, lambda row: secret_purpose(row["id"])
    )
