"""The providers that admins have set up: rows, with their secrets sealed (contract-admin 7.10).

Which of them are in force is the business of `registry`. There is always a way in for an admin.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from gocdnext.auth import words
from gocdnext.auth.identity import OPERATOR, SERVICE_ACCOUNT
from gocdnext.auth.providers.github import API, web_base
from gocdnext.auth.room import Room
from gocdnext.config import SignInProvider
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import ConflictError, InvalidError, NotFoundError
from gocdnext.outbound.policy import Policy
from gocdnext.secrets import resealing
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring, Sealed

sql = queries.load("providers")
KINDS = ("github", "oidc")
RESERVED = frozenset(("local", "providers", SERVICE_ACCOUNT, OPERATOR.provider))
"""Names that stand for something else where accounts or addresses have the name of a provider."""
LONGEST_ID = 500
LONGEST_URL = 1000
LONGEST_SECRET = 16 * 1024
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
NO_WAY_IN = "no admin could sign in any more: make one with a password first, or one of another provider"


@dataclass(frozen=True, slots=True)
class NewProvider:
    """What an admin says of a provider; texts as they were sent."""

    name: str
    kind: str
    display_name: str
    client_id: str
    client_secret: str = field(repr=False)
    """Empty: the one that is there stays."""
    issuer: str
    github_api_base: str
    enabled: bool
    adopt_accounts: bool = False
    """Whether its people keep their accounts although another issuer vouches for them from now on."""


async def listed(db: Database) -> list[asyncpg.Record]:
    """All of them by name."""
    return await db.fetch(sql.providers)


def opened(keyring: Keyring, row: asyncpg.Record) -> SignInProvider:
    """A row with its secret. Raises UnsealError."""
    secret = keyring.open(Sealed(row["key_id"], row["client_secret"]), _purpose(row["name"]))
    return SignInProvider(
        name=row["name"],
        kind=row["kind"],
        display=row["display_name"] or row["name"],
        client_id=row["client_id"],
        client_secret=secret,
        issuer=row["issuer"],
        github_api_base=row["github_api_base"],
    )


async def save(room: Room, keyring: Keyring, said: NewProvider, elsewhere: Collection[str]) -> asyncpg.Record:
    """Makes a provider, or replaces the one of that name. `elsewhere` are the names that the environment sets up.

    Raises InvalidError, and ConflictError when no admin could sign in any more.
    """
    now, new_id = room.clock(), room.new_id()

    async def work(conn: Connection) -> asyncpg.Record:
        before = await conn.fetchrow(sql.lock_provider, said.name)
        if said.client_secret:
            sealed = keyring.seal(said.client_secret, _purpose(said.name))
        elif before is None:
            raise InvalidError("client_secret is required for a new provider")
        elif (before["kind"], before["issuer"], before["github_api_base"]) != (
            said.kind,
            said.issuer,
            said.github_api_base,
        ):
            # Else whoever may edit providers could have a secret sent to a place of their own.
            raise InvalidError("client_secret is required when kind, issuer or github_api_base change")
        else:
            sealed = Sealed(before["key_id"], before["client_secret"])
        row = await conn.fetchrow(
            sql.save_provider,
            new_id,
            said.name,
            said.kind,
            said.display_name,
            said.client_id,
            sealed.data,
            sealed.key_id,
            said.issuer,
            said.github_api_base,
            said.enabled,
            now,
        )
        assert row is not None
        if said.adopt_accounts:
            await conn.execute(sql.adopt, said.name, said.issuer or web_base(said.github_api_base or API), now)
        await _changed(conn, elsewhere, lost=None if said.enabled else said.name)
        return row

    return await room.change(work)


async def delete(room: Room, provider_id: UUID, elsewhere: Collection[str]) -> str:
    """Removes a provider; returns its name. Its accounts stay. Raises NotFoundError, ConflictError as `save`."""

    async def work(conn: Connection) -> str:
        name: str | None = await conn.fetchval(sql.provider_name, provider_id)
        if name is None:
            raise NotFoundError("auth provider not found")
        await conn.execute(sql.delete_provider, provider_id)
        await _changed(conn, elsewhere, lost=None if name in elsewhere else name)
        return name

    return await room.change(work)


async def reseal(db: Database, keyring: Keyring) -> Resealed:
    """Seals everything with the newest key that is sealed with another (`resealing.reseal`)."""
    return await resealing.reseal(db, keyring, sql.under_other_keys, sql.sealed_anew, lambda row: _purpose(row["name"]))


def checked(said: NewProvider, policy: Policy) -> NewProvider:
    """What an admin says, trimmed, if it can be meant. Raises InvalidError."""
    name, client_id, kind = said.name.strip(), said.client_id.strip(), said.kind.strip().lower()
    if not name or not client_id:
        raise InvalidError("store: provider name + client id required")
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise InvalidError(
            "name must be 1 to 63 small letters, digits, dots, dashes or underscores, and none of "
            + ", ".join(sorted(RESERVED))
        )
    if kind not in KINDS:
        raise InvalidError(f'store: invalid kind "{kind[:40]}"')
    _bounded("client_id", client_id, LONGEST_ID)
    _bounded("client_secret", said.client_secret, LONGEST_SECRET)
    issuer = said.issuer.strip() if kind == "oidc" else ""
    base = said.github_api_base.strip().rstrip("/") if kind == "github" else ""
    if kind == "oidc" and not issuer:
        raise InvalidError("issuer is required for kind oidc")
    for field_name, url in (("issuer", issuer), ("github_api_base", base)):
        if url and (problem := problem_of(url, policy)):
            raise InvalidError(f"{field_name} {problem}")
    return NewProvider(
        name=name,
        kind=kind,
        display_name=words.name(said.display_name, required=False),
        client_id=client_id,
        client_secret=said.client_secret.strip(),
        issuer=issuer,
        github_api_base=base,
        enabled=said.enabled,
        adopt_accounts=said.adopt_accounts,
    )


def problem_of(url: str, policy: Policy) -> str:
    """Why an address cannot be that of a provider; empty when it can."""
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        return f"must be an address of at most {LONGEST_URL} plain characters"
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("https", "http") or "@" in parts.netloc or parts.query or parts.fragment:
        return "must be an https address without query, fragment and credentials"
    if parts.scheme == "http" and not policy.allow.has_name(host):
        return "must be an https address: plain http only counts for hosts that GOCDNEXT_OUTBOUND_ALLOW names"
    return ""


async def _changed(conn: Connection, elsewhere: Collection[str], lost: str | None) -> None:
    """Tells every server, and sees to it that the admins do not shut themselves out."""
    await conn.execute(sql.changed)
    if lost is None:
        return
    admins = {row["provider"] for row in await conn.fetch(sql.admins_by_provider)}
    rows = await conn.fetch(sql.providers)
    switched_off = {row["name"] for row in rows if not row["enabled"]}
    ways = {"local", *elsewhere, *(row["name"] for row in rows)} - switched_off - {lost}
    if lost in admins and not admins & ways:
        raise ConflictError(NO_WAY_IN)


def _bounded(name: str, text: str, longest: int) -> None:
    if len(text) > longest or not text.isprintable():
        raise InvalidError(f"{name} must be one line of at most {longest} characters")


def _purpose(name: str) -> str:
    return f"auth provider {name}"
