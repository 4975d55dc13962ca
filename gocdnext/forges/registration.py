"""Registering the hook of a project's repository at its provider, and giving it a new secret (contract-admin 6.9, 9.2, 9.3).

Registration never fails whoever asks for it: what became of it is a result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import structlog
import trio

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import DomainError, NotFoundError
from gocdnext.forges import hooks
from gocdnext.forges.accounts import Accounts
from gocdnext.forges.places import KNOWN, place_of
from gocdnext.secrets import hooks as hook_secrets
from gocdnext.secrets.sealing import Keyring, UnsealError

TIMEOUT = 30.0
"""Seconds for everything that is asked of the provider (9.3)."""
_SQL = queries.load("registration")
_log = structlog.get_logger("forges")


@dataclass(frozen=True, slots=True)
class Result:
    """`WebhookResult` of 6.9."""

    url: str
    provider: str
    status: str
    hook_id: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Rotated:
    """A source with a new secret, which is told this once; `webhook` when hooks are registered."""

    source_id: UUID
    provider: str
    url: str
    secret: str = field(repr=False)
    webhook: Result | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """Where hooks point to. `base` is the server's public address; `override` another one for hooks, for GitHub the whole
    url of the hook (9.3)."""

    base: str = ""
    override: str = ""

    @property
    def known(self) -> bool:
        """Whether hooks can be registered at all."""
        return bool(self.base or self.override)

    def of(self, provider: str) -> str:
        """The url of the hook at a provider."""
        if self.override and provider == "github":
            return self.override
        return f"{self.override.rstrip('/') or self.base}/api/webhooks/{provider}"


class Registration:
    """Registers hooks. Trio side; every method may raise DatabaseUnavailableError."""

    def __init__(self, db: Database, keyring: Keyring, accounts: Accounts, targets: Targets) -> None:
        self._db = db
        self._keyring = keyring
        self._accounts = accounts
        self.targets = targets

    async def register(self, source_id: UUID, *, renewed: bool = False) -> Result | None:
        """Brings the hook of a bound repository up to date. None when no address for hooks is known or the source is gone.

        A hook that was registered for this repository and address is left alone unless its secret is `renewed`.
        """
        row = await self._db.fetchrow(_SQL.source, source_id)
        if row is None or not self.targets.known:
            return None
        target = self.targets.of(row["provider"])
        purpose = f"{row['url']} {target}"
        if row["hook_for"] == purpose and not renewed:
            return Result(row["url"], row["provider"], "already_exists", row["hook_id"] or "")
        result = Result(row["url"], row["provider"], "failed", error=f"no answer within {TIMEOUT:g} s")
        with trio.move_on_after(TIMEOUT):
            result = await self._registered(row, target)
        if result.status == "failed":
            _log.warning("a webhook was not registered", url=row["url"], provider=row["provider"], why=result.error)
        done = result.status in ("registered", "updated", "already_exists")
        await self._db.execute(_SQL.set_hook, source_id, result.hook_id or None, purpose if done else None)
        return result

    async def rotate(self, slug: str) -> Rotated:
        """A new secret; the old one is refused from now on. Raises NotFoundError."""
        secret = hook_secrets.generated()

        async def work(conn: Connection) -> asyncpg.Record:
            row = await conn.fetchrow(_SQL.source_of_project, slug)
            if row is None:
                raise NotFoundError("project not found")
            if row["id"] is None:
                raise NotFoundError("project has no scm_source bound")
            await hook_secrets.keep(conn, self._keyring, row["id"], secret, replace=True)
            return row

        row = await self._db.transaction(work)
        webhook = await self.register(row["id"], renewed=True)
        return Rotated(row["id"], row["provider"], row["url"], secret, webhook)

    async def _registered(self, row: asyncpg.Record, target: str) -> Result:
        url, provider = row["url"], row["provider"]
        place = place_of(provider, row["clone_url"])
        if place is None:
            word = "skipped_unsupported_provider" if provider not in KNOWN else "failed"
            said = "" if provider not in KNOWN else f"the address is not that of a repository at {provider}"
            return Result(url, provider, word, error=said)
        try:
            secret = hook_secrets.opened(self._keyring, row)
            account = await self._accounts.of(place, row["auth_ref"] or "")
            if secret is None:
                return Result(url, provider, "failed", error="it has no webhook secret: rotate it, which makes one")
            if account is None:
                return _nobody(url, provider, place.host)
            made = await hooks.register(account, hooks.Wanted(target, secret))
        except (DomainError, UnsealError) as error:
            return Result(url, provider, "failed", error=str(error))
        return Result(url, provider, made.status, made.hook_id)


def _nobody(url: str, provider: str, host: str) -> Result:
    if provider == "github":
        return Result(
            url, provider, "skipped_no_install", error=f"no GitHub App is installed there, no token for {host}"
        )
    return Result(url, provider, "failed", error=f"no credential for {host}: add one, or give the source an auth_ref")
