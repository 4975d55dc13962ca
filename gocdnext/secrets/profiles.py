"""Runner profiles as they are kept, their secrets sealed (contract-admin 7.11). What they mean is `pipeline.profiles`.

Trio side but for `keep`, `for_apply` and `for_jobs`, which are asyncio code on a raw connection; everything may raise
DatabaseUnavailableError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.db.refreshed import Refreshed
from gocdnext.errors import ConflictError, InvalidError, NotFoundError
from gocdnext.pipeline.profiles import ENV_KEY, Placement, Profile, flaws, is_env_key
from gocdnext.runs.assignment import ProfileValues
from gocdnext.secrets import resealing
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring, Sealed, UnsealError

PRESERVE = "__GOCDNEXT_SECRET_PRESERVE__"
"""As a value: what is stored stays."""
CHANNEL = "runner_profiles_changed"
MAX_NAME, MAX_DESCRIPTION = 200, 2000
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_POINTER = re.compile(r"\{\{\s*secret:([A-Za-z][A-Za-z0-9_]{0,63})\s*\}\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SQL = queries.load("profiles")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A profile as somebody wants it; `secrets` are values, pointers to global secrets, or PRESERVE."""

    profile: Profile
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class DefaultProfile:
    """Whether there is a profile `default` that gives every job something, as this process knows it."""

    def __init__(self, db: Database, tell: Callable[[bool], None]) -> None:
        self._db = db
        self._tell = tell
        self.kept = Refreshed("runner profiles", self.refresh)

    async def refresh(self) -> None:
        """Looks now."""
        self._tell(bool(await self._db.fetchval(_SQL.has_default)))


async def listed(db: Database, limit: int | None, offset: int) -> list[asyncpg.Record]:
    """Profiles by name, with `secret_keys` and `secret_refs`."""
    return await db.fetch(_SQL.list, limit, offset)


async def create(
    db: Database, keyring: Keyring, wanted: Wanted, now: datetime, new_id: Callable[[], UUID]
) -> asyncpg.Record:
    """A new profile. Raises InvalidError, ConflictError for a name that is taken."""
    check(wanted)
    profile_id = new_id()

    async def work(conn: Connection) -> asyncpg.Record:
        if await conn.fetchval(_SQL.insert, profile_id, *_columns(wanted.profile), now) is None:
            raise ConflictError("profile name already exists")
        await _set_secrets(conn, keyring, profile_id, wanted.secrets, new_id)
        await conn.execute(_SQL.tell)
        row = await conn.fetchrow(_SQL.one, profile_id)
        assert row is not None
        return row

    return await db.transaction(work)


async def change(
    db: Database, keyring: Keyring, profile_id: UUID, wanted: Wanted, now: datetime, new_id: Callable[[], UUID]
) -> None:
    """Replaces a profile. Raises InvalidError, NotFoundError, ConflictError for a name that is taken, and for another
    name while something uses the old one."""
    check(wanted)

    async def work(conn: Connection) -> None:
        name = await _held(conn, profile_id)
        if name != wanted.profile.name:
            await _require_unused(conn, name)
        await conn.execute(_SQL.update, profile_id, *_columns(wanted.profile), now)
        await _set_secrets(conn, keyring, profile_id, wanted.secrets, new_id)
        await conn.execute(_SQL.tell)

    try:
        await db.transaction(work)
    except asyncpg.UniqueViolationError:
        raise ConflictError("profile name already exists") from None


async def delete(db: Database, profile_id: UUID) -> str:
    """Removes a profile; its name. Raises NotFoundError, ConflictError while something uses it."""

    async def work(conn: Connection) -> str:
        name = await _held(conn, profile_id)
        await _require_unused(conn, name)
        await conn.execute(_SQL.delete, profile_id)
        await conn.execute(_SQL.tell)
        return name

    return await db.transaction(work)


async def keep(conn: Connection, profile_id: UUID, profile: Profile, now: datetime) -> None:
    """Makes a profile that was checked, or puts it in the place of the one of its name. Asyncio side."""
    await conn.execute(_SQL.keep, profile_id, *_columns(profile), now)


async def for_apply(conn: Connection) -> dict[str, Profile]:
    """All profiles by name, without what only matters elsewhere."""
    rows = await conn.fetch(_SQL.for_apply)
    return {row["name"]: msgspec.convert(dict(row), Profile) for row in rows}


async def for_jobs(conn: Connection, keyring: Keyring) -> dict[str, ProfileValues]:
    """What jobs of each profile find in their environment, by name of the profile."""
    found: dict[str, asyncpg.Record] = {}
    known: dict[str, dict[str, str]] = {}
    unreadable: dict[str, dict[str, str]] = {}
    for row in await conn.fetch(_SQL.for_jobs):
        found[row["name"]] = row
        if row["key"] is None:
            continue
        try:
            known.setdefault(row["name"], {})[row["key"]] = _opened(keyring, row)
        except UnsealError as error:
            unreadable.setdefault(row["name"], {})[row["key"]] = str(error)
    return {
        name: ProfileValues(row["env"], known.get(name, {}), unreadable.get(name, {}), _placement(row))
        for name, row in found.items()
    }


async def reseal(db: Database, keyring: Keyring) -> Resealed:
    """Seals everything with the newest key that is sealed with another (`resealing.reseal`)."""
    return await resealing.reseal(
        db, keyring, _SQL.under_other_keys, _SQL.sealed_anew, lambda row: _purpose(row["profile_id"], row["key"])
    )


def check(wanted: Wanted) -> None:
    """Raises InvalidError with the words of 7.11; never with the value of a secret."""
    profile = wanted.profile
    if not profile.name:
        raise InvalidError("name is required")
    if len(profile.name) > MAX_NAME or not _NAME.fullmatch(profile.name):
        raise InvalidError("name may only contain letters, digits, dash, underscore, dot")
    if len(profile.description) > MAX_DESCRIPTION or _CONTROL.search(profile.description):
        raise InvalidError(f"description must be one line of at most {MAX_DESCRIPTION} characters")
    if not profile.engine:
        raise InvalidError("engine is required")
    if profile.engine != "kubernetes":
        raise InvalidError("unsupported engine (allowed: kubernetes)")
    for flaw in flaws(profile):
        raise InvalidError(flaw)
    for key, value in wanted.secrets.items():
        if not is_env_key(key):
            raise InvalidError(f'secret key "{key[:80]}" invalid: use UPPER_SNAKE_CASE ({ENV_KEY})')
        if "\0" in value:
            raise InvalidError("a secret cannot hold a NUL byte: no environment variable can")


def _columns(profile: Profile) -> list[object]:
    """The columns of `insert` and `update`, in their order."""
    return [
        profile.name,
        profile.description,
        profile.engine,
        profile.default_image,
        profile.default_cpu_request,
        profile.default_cpu_limit,
        profile.default_mem_request,
        profile.default_mem_limit,
        profile.max_cpu,
        profile.max_mem,
        list(profile.tags),
        profile.config,
        profile.node_selector,
        msgspec.to_builtins(profile.tolerations),
        msgspec.to_builtins(profile.preferred_node_affinity),
        profile.env,
    ]


async def _set_secrets(
    conn: Connection, keyring: Keyring, profile_id: UUID, wanted: Mapping[str, str], new_id: Callable[[], UUID]
) -> None:
    """The secrets of a profile are these from now on. PRESERVE for one that is not stored is no secret."""
    await conn.execute(_SQL.drop_secrets, profile_id, list(wanted))
    for key, value in wanted.items():
        if value == PRESERVE:
            continue
        pointer = _POINTER.fullmatch(value.strip())
        if pointer is not None:
            await conn.execute(_SQL.set_secret, new_id(), profile_id, key, None, None, pointer[1])
        else:
            sealed = keyring.seal(value, _purpose(profile_id, key))
            await conn.execute(_SQL.set_secret, new_id(), profile_id, key, sealed.data, sealed.key_id, None)


async def _held(conn: Connection, profile_id: UUID) -> str:
    name: str | None = await conn.fetchval(_SQL.hold, profile_id)
    if name is None:
        raise NotFoundError("profile not found")
    return name


async def _require_unused(conn: Connection, name: str) -> None:
    uses = await conn.fetchrow(_SQL.uses, name)
    assert uses is not None
    if uses["pipelines"] or uses["runs"]:
        raise ConflictError(
            f"profile {name} is used by {uses['pipelines']} pipelines and {uses['runs']} active runs: "
            "take it out of the pipelines and apply them first"
        )


def _placement(row: asyncpg.Record) -> Placement:
    return msgspec.convert({name: row[name] for name in Placement.__struct_fields__}, Placement)


def _opened(keyring: Keyring, row: asyncpg.Record) -> str:
    """The value of a secret of a profile. Raises UnsealError."""
    if row["global_name"] is None:
        return keyring.open(Sealed(row["key_id"], row["value_sealed"]), _purpose(row["profile_id"], row["key"]))
    if row["global_source"] is None:
        raise UnsealError(f"there is no global secret {row['global_name']}")
    if row["global_sealed"] is None:
        raise UnsealError(
            f"the global secret {row['global_name']} is kept elsewhere: only one of this server can be used"
        )
    sealed = Sealed(row["global_key_id"], row["global_sealed"])
    return keyring.open(sealed, f"secret global {row['global_name']}")


def _purpose(profile_id: UUID, key: str) -> str:
    return f"runner profile {profile_id} {key}"
