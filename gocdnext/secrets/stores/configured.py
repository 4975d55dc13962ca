"""Which stores there are, and how they are reached: the environment's word, replaced by what administrators set
(contract-admin 5.8).

Trio side; every method may raise DatabaseUnavailableError. Credentials come in, are sealed, and never go out again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import msgspec
import orjson
import structlog
import trio

from gocdnext.config import ConfigError, Settings
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import InvalidError
from gocdnext.outbound.client import Outbound
from gocdnext.secrets import resealing
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring, Sealed, UnsealError
from gocdnext.secrets.stores import vault
from gocdnext.secrets.stores.errors import ERROR, StoreError
from gocdnext.secrets.stores.files import FileStore
from gocdnext.secrets.stores.vault import Vault, VaultSettings

_SQL = queries.load("secret_backends")
_log = structlog.get_logger("secrets")
VAULT, FILE = "vault", "file"
LISTED = (VAULT, "gcp", "aws", FILE)
REMEMBERED = 30.0
"""Seconds that the rows are not read again: the longest that a missed word of a change lasts."""
TEST_BUDGET = 10.0
CREDENTIALS_PREFIX = "secret_"
"""What the files in `$CREDENTIALS_DIRECTORY` begin with that jobs may have: `LoadCredential=secret:/some/folder`."""


class Store(Protocol):
    """A store that is in use."""

    async def read(self, path: str, key: str) -> str:
        """A value. Raises StoreError."""

    async def check(self) -> None:
        """Raises StoreError when nothing could be read."""


@dataclass(frozen=True, slots=True)
class Open:
    """A store in use, and a fingerprint of how it is configured: no value outlives a change."""

    store: Store
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What an administrator wants of a store."""

    enabled: bool
    value: Mapping[str, Any]
    credentials: Mapping[str, str] = field(repr=False)
    preserve_credentials: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A store as it may be shown."""

    source: str
    enabled: bool
    value: Mapping[str, Any]
    has_credentials: bool
    origin: str
    updated_at: datetime | None = None


class Stores:
    """The stores of this server. Raises ConfigError for an environment that cannot be meant."""

    def __init__(
        self,
        db: Database,
        keyring: Keyring,
        outbound: Outbound,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db, self._keyring, self._outbound = db, keyring, outbound
        self._clock, self._new_id = clock, new_id
        self._timeout = float(settings.secret_fetch_timeout)
        self._files = _files(settings)
        self._environment = _of_environment(settings)
        self._lock = trio.Lock()
        self._open: dict[str, Open] = {}
        self._until = 0.0

    def forget(self) -> None:
        """Something was changed, here or elsewhere: the rows are read again."""
        self._until = 0.0

    async def open(self) -> Mapping[str, Open]:
        """The stores in use, by source."""
        async with self._lock:
            if trio.current_time() >= self._until:
                self._until = trio.current_time() + REMEMBERED
                try:
                    self._open = self._opened(await self._row())
                except BaseException:
                    self._until = 0.0
                    raise
            return self._open

    async def shown(self) -> list[Shown]:
        """Every kind of store, in use or not. Those of other clouds are never: this version has none."""
        row = await self._row()
        files = {} if self._files is None else {"directory": str(self._files.directory)}
        return [
            self._environment.shown() if row is None else _shown(row),
            Shown("gcp", False, {"project": ""}, False, "env"),
            Shown("aws", False, {"region": "", "endpoint": ""}, False, "env"),
            Shown(FILE, self._files is not None, files, False, "env"),
        ]

    async def set(self, source: str, wish: Wish) -> Shown:
        """Sets a store, in place of what the environment says of it. Raises InvalidError."""
        _settable(source)
        settings, credentials = await self._meant(wish)
        if wish.enabled and (wrong := vault.problem(settings, credentials)):
            raise InvalidError(wrong)
        if wish.enabled:
            needed = vault.credential_of(settings)
            credentials = {name: text for name, text in credentials.items() if name == needed}
        value = {name: text for name, text in msgspec.to_builtins(settings).items() if text}
        sealed = self._keyring.seal(orjson.dumps(credentials).decode(), _purpose(source)) if credentials else None
        row = (None, None) if sealed is None else (sealed.data, sealed.key_id)

        async def work(conn: Connection) -> None:
            await conn.execute(_SQL.set, self._new_id(), source, wish.enabled, value, *row, self._clock())
            await conn.execute(_SQL.notify_changed, source)

        await self._changed(work)
        return (await self.shown())[LISTED.index(source)]

    async def delete(self, source: str) -> Shown:
        """Forgets what was set; what the environment says, which counts then. Raises InvalidError."""
        if source not in LISTED:
            raise InvalidError(_UNKNOWN)

        async def work(conn: Connection) -> None:
            await conn.execute(_SQL.delete, source)
            await conn.execute(_SQL.notify_changed, source)

        await self._changed(work)
        return (await self.shown())[LISTED.index(source)]

    async def test(self, source: str, wish: Wish) -> None:
        """Tries a store as it is wished for; nothing is kept. Raises InvalidError, StoreError."""
        if source == FILE and self._files is not None:
            await self._files.check()
            return
        _settable(source)
        settings, credentials = await self._meant(wish)
        if wrong := vault.problem(settings, credentials):
            raise StoreError(ERROR, wrong)
        one = Vault(settings, credentials, self._outbound, timeout=TEST_BUDGET, clock=self._clock)
        await one.check()

    # ---- inside ------------------------------------------------------------------------------------

    async def _row(self) -> asyncpg.Record | None:
        return await self._db.fetchrow(_SQL.all)

    async def _changed(self, work: Callable[[Connection], Any]) -> None:
        try:
            await self._db.transaction(work)
        finally:
            # Also after an error: a commit may have happened although nobody told us.
            self.forget()

    def _opened(self, row: asyncpg.Record | None) -> dict[str, Open]:
        found: dict[str, Open] = {}
        if self._files is not None:
            found[FILE] = Open(self._files, FILE)
        if row is None:
            enabled, settings, credentials = self._environment.meant()
        else:
            try:
                enabled, settings, credentials = row["enabled"], _settings(row["value"]), self._credentials(row)
            except (UnsealError, InvalidError) as error:
                _log.error("a store of secrets cannot be used", source=VAULT, error=str(error))
                return found
        if not enabled:
            return found
        if wrong := vault.problem(settings, credentials):
            _log.error("a store of secrets cannot be used", source=VAULT, error=wrong)
            return found
        fingerprint = _fingerprint(settings, credentials)
        known = self._open.get(VAULT)
        if known is not None and known.fingerprint == fingerprint:
            found[VAULT] = known  # with the token it has
        else:
            made = Vault(settings, credentials, self._outbound, timeout=self._timeout, clock=self._clock)
            found[VAULT] = Open(made, fingerprint)
        return found

    def _credentials(self, row: asyncpg.Record) -> dict[str, str]:
        if row["credentials_sealed"] is None:
            return {}
        text = self._keyring.open(Sealed(row["key_id"], row["credentials_sealed"]), _purpose(row["source"]))
        found: dict[str, str] = orjson.loads(text)
        return found

    async def _meant(self, wish: Wish) -> tuple[VaultSettings, dict[str, str]]:
        """Settings and credentials of a wish; with `preserve_credentials` those that are kept, where none are given."""
        credentials = {name: text for name, text in wish.credentials.items() if text}
        if wish.preserve_credentials and not credentials:
            row = await self._row()
            try:
                credentials = {} if row is None else self._credentials(row)
            except UnsealError:
                credentials = {}
        return _settings(wish.value), credentials


@dataclass(frozen=True, slots=True)
class _Environment:
    enabled: bool
    settings: VaultSettings
    credentials: Mapping[str, str] = field(repr=False)

    def meant(self) -> tuple[bool, VaultSettings, Mapping[str, str]]:
        return self.enabled, self.settings, self.credentials

    def shown(self) -> Shown:
        value = {name: text for name, text in msgspec.to_builtins(self.settings).items() if text}
        return Shown(VAULT, self.enabled, value, bool(self.credentials), "env")


def _of_environment(settings: Settings) -> _Environment:
    """Raises ConfigError."""
    said = dict(settings.vault)
    credentials: dict[str, str] = {name: said.pop(name) for name in ("secret_id", "token") if name in said}
    if (pem := said.get("ca_cert", "")) and "-----BEGIN" not in pem:
        try:
            said["ca_cert"] = Path(pem).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"GOCDNEXT_SECRET_VAULT_CACERT: {pem} cannot be read") from None
    skip = said.pop("insecure_skip_verify", "false") == "true"
    meant = VaultSettings(**said, insecure_skip_verify=skip)
    if settings.vault_enabled and (wrong := vault.problem(meant, credentials)):
        raise ConfigError(f"GOCDNEXT_SECRET_VAULT_*: {wrong}")
    return _Environment(settings.vault_enabled, meant, credentials)


def _files(settings: Settings) -> FileStore | None:
    if settings.secret_files is not None:
        return FileStore(settings.secret_files)
    if settings.credentials_directory is not None:
        return FileStore(settings.credentials_directory, CREDENTIALS_PREFIX)
    return None


def _settings(value: Mapping[str, Any]) -> VaultSettings:
    """Raises InvalidError for a key of another type; keys that are unknown are left out."""
    try:
        made = msgspec.convert({name: text for name, text in value.items() if text is not None}, VaultSettings)
    except msgspec.ValidationError as error:
        raise InvalidError(f"invalid value: {error}") from None
    plain: dict[str, Any] = {
        name: text.strip() if isinstance(text, str) else text for name, text in msgspec.to_builtins(made).items()
    }
    if not plain["auth"]:
        plain["auth"] = vault.APPROLE
    return VaultSettings(**plain)


def _shown(row: asyncpg.Record) -> Shown:
    has = row["credentials_sealed"] is not None
    return Shown(row["source"], row["enabled"], row["value"], has, "db", row["updated_at"])


_UNKNOWN = "unknown backend source (want vault | gcp | aws)"


def _settable(source: str) -> None:
    if source not in LISTED:
        raise InvalidError(_UNKNOWN)
    if source == FILE:
        raise InvalidError(
            "the directory of secrets is named by GOCDNEXT_SECRET_FILES_DIR, where the server is started"
        )
    if source != VAULT:
        raise InvalidError(f"this version has no {source} backend")


def _fingerprint(settings: VaultSettings, credentials: Mapping[str, str]) -> str:
    document = orjson.dumps([msgspec.to_builtins(settings), dict(credentials)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(document).hexdigest()


def _purpose(source: str) -> str:
    return f"secret backend {source}"


async def reseal(db: Database, keyring: Keyring) -> Resealed:
    """Seals everything with the newest key that is sealed with another (`resealing.reseal`)."""
    return await resealing.reseal(
        db, keyring, _SQL.under_other_keys, _SQL.sealed_anew, lambda row: _purpose(row["source"])
    )
