"""The secrets of projects and the global ones: listed by name, set, removed; opened for the jobs of a run (contract-admin 5).

Trio side; every method may raise DatabaseUnavailableError. Values go in and into assignments, nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import InvalidError, NotFoundError, UnavailableError
from gocdnext.runs.assignment import ProfileValues, Reference, SecretValues
from gocdnext.secrets import profiles, resealing
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring, Sealed, UnsealError
from gocdnext.secrets.signing import NO_BASE, Signer, SigningKeys
from gocdnext.secrets.stores.configured import LISTED, VAULT
from gocdnext.secrets.stores.fetching import Fetched, Fetching, not_enabled

_SQL = queries.load("secrets")
_PROJECTS = queries.load("projects")
_log = structlog.get_logger("secrets")
PATTERN = "^[A-Za-z][A-Za-z0-9_]{0,63}$"
_NAME = re.compile(PATTERN[1:-1])
DB = "db"
MAX_INHERITED = 1000
WITHHELD = "what a fork proposes gets no secrets; push the branch to the repository itself to run it with them"


@dataclass(frozen=True, slots=True)
class NewSecret:
    """What somebody wants kept under a name."""

    name: str
    value: str = field(default="", repr=False)
    source: str = DB
    ref_path: str = ""
    ref_key: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some secrets without their values, how many there are, and global ones that a project inherits."""

    secrets: list[asyncpg.Record]
    total: int
    inherited: list[asyncpg.Record]


class Secrets:
    """Implements `runs.ports.Secrets`. A `slug` of None means the global secrets."""

    def __init__(
        self,
        db: Database,
        keyring: Keyring,
        signing_keys: SigningKeys,
        fetching: Fetching | None = None,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db = db
        self._keyring = keyring
        self._signing_keys = signing_keys
        self._fetching = fetching
        self._clock = clock
        self._new_id = new_id
        self.always = False
        """Whether there is a runner profile `default` (`profiles.DefaultProfile` says so)."""

    def tell_default(self, there_is_one: bool) -> None:
        """Whether there is a runner profile `default` from now on."""
        self.always = there_is_one

    async def page(self, slug: str | None, limit: int, offset: int) -> Page:
        """Secrets by name. Raises NotFoundError."""
        project_id = await self._project(slug)
        inherited: list[asyncpg.Record] = []
        if project_id is None:
            rows = await self._db.fetch(_SQL.list_global, limit, offset)
        else:
            rows = await self._db.fetch(_SQL.list, project_id, limit, offset)
            inherited = await self._db.fetch(_SQL.inherited, project_id, MAX_INHERITED)
        if not rows and offset:
            return Page([], (await self.page(slug, 1, 0)).total, inherited)
        return Page(rows, rows[0]["total"] if rows else 0, inherited)

    async def set(self, slug: str | None, new: NewSecret) -> bool:
        """Keeps a value under a name, in place of what was there; whether the name is new. Raises InvalidError,
        NotFoundError."""
        _check(new, await self.sources())
        project_id = await self._project(slug)
        kept = new.source == DB
        sealed = self._keyring.seal(new.value, _purpose(project_id, new.name)) if kept else None
        statement = _SQL.set_global if project_id is None else _SQL.set
        created: bool = await self._db.fetchval(
            statement,
            self._new_id(),
            project_id,
            new.name,
            new.source,
            sealed and sealed.data,
            sealed and sealed.key_id,
            None if kept else new.ref_path,
            new.ref_key or None,
            self._clock(),
        )
        _log.info("secret set", project=slug, name=new.name, created=created)
        return created

    async def delete(self, slug: str | None, name: str) -> None:
        """Removes a secret. Raises NotFoundError."""
        project_id = await self._project(slug)
        if await self._db.fetchval(_SQL.delete, project_id, name) is None:
            raise NotFoundError("secret not found")
        _log.info("secret deleted", project=slug, name=name)

    async def of_run(self, run_id: UUID) -> SecretValues:
        """The values that jobs and notifications of a run ask for, those of runner profiles, and what signs its identity
        tokens."""
        known, unreadable, withheld = {}, {}, {}
        elsewhere: dict[str, Reference] = {}

        async def work(conn: Connection) -> tuple[list[asyncpg.Record], dict[str, ProfileValues]]:
            return await conn.fetch(_SQL.of_run, run_id), await profiles.for_jobs(conn, self._keyring)

        rows, of_profiles = await self._db.run(work)
        for row in rows:
            name = row["name"]
            if row["from_fork"]:
                withheld[name] = WITHHELD
                continue
            if row["source"] != DB:
                elsewhere[name] = Reference(row["source"], row["ref_path"], row["ref_key"] or "")
                continue
            try:
                known[name] = self._open(row)
            except UnsealError as error:
                unreadable[name] = str(error)
        at_hand = await self._at_hand(run_id, elsewhere)
        for name, fetched in at_hand.items():
            if fetched.value is None:
                unreadable[name] = fetched.why
            else:
                known[name] = fetched.value
        if unreadable:
            _log.error("secrets cannot be opened", run_id=str(run_id), secrets=unreadable)
        mint, no_mint = await self._mint(run_id)
        missing = {name: reference for name, reference in elsewhere.items() if name not in at_hand}
        return SecretValues(known, unreadable | withheld, of_profiles, missing, mint, no_mint)

    def fetch(self, run_id: UUID, references: Collection[Reference]) -> None:
        """Begins to ask other stores for secrets of the run that `of_run` said are elsewhere."""
        if self._fetching is not None:
            self._fetching.begin(run_id, list(references))

    async def sources(self) -> list[str]:
        """Where values can be kept now."""
        return [DB, *(await self._fetching.sources() if self._fetching is not None else ())]

    async def _at_hand(self, run_id: UUID, elsewhere: Mapping[str, Reference]) -> dict[str, Fetched]:
        if not elsewhere:
            return {}
        if self._fetching is None:
            return {name: Fetched(why=not_enabled(reference.source)) for name, reference in elsewhere.items()}
        found = await self._fetching.at_hand(run_id, list(elsewhere.values()))
        return {name: found[reference] for name, reference in elsewhere.items() if reference in found}

    async def _mint(self, run_id: UUID) -> tuple[Signer | None, str]:
        """What signs the identity tokens of a run, or why there is nothing; a run that asks for none makes no key."""
        if not await self._signing_keys.asked_for(run_id):
            return None, NO_BASE
        try:
            return await self._signing_keys.signer(), ""
        except UnavailableError as error:
            _log.error("no identity tokens", run_id=str(run_id), why=str(error))
            return None, str(error)

    def _open(self, row: asyncpg.Record) -> str:
        return self._keyring.open(Sealed(row["key_id"], row["value_sealed"]), _purpose(row["project_id"], row["name"]))

    async def _project(self, slug: str | None) -> UUID | None:
        if slug is None:
            return None
        project_id: UUID | None = await self._db.fetchval(_PROJECTS.id_of_slug, slug)
        if project_id is None:
            raise NotFoundError("project not found")
        return project_id


async def reseal(db: Database, keyring: Keyring) -> Resealed:
    """Seals everything with the newest key that is sealed with another (`resealing.reseal`)."""
    return await resealing.reseal(
        db, keyring, _SQL.under_other_keys, _SQL.sealed_anew, lambda row: _purpose(row["project_id"], row["name"])
    )


def _purpose(project_id: UUID | None, name: str) -> str:
    """What a value is sealed for: a secret of another project or name does not open in its place."""
    return f"secret {project_id or 'global'} {name}"


def _check(new: NewSecret, sources: Collection[str]) -> None:
    """Raises InvalidError with the words of contract-admin 5.4."""
    if not new.name:
        raise InvalidError("name is required")
    if _NAME.fullmatch(new.name) is None:
        raise InvalidError(f'store: secret name must match {PATTERN} (got "{new.name[:80]}")')
    if new.source != DB and new.source not in LISTED:
        raise InvalidError(f'unknown secret source "{new.source[:80]}"')
    if new.source not in sources:
        raise InvalidError(f'secret source "{new.source}" is not configured on this server')
    if new.source == DB:
        if new.ref_path or new.ref_key:
            raise InvalidError("db secret takes no ref path/key")
        if "\0" in new.value:
            raise InvalidError("a secret cannot hold a NUL byte: no environment variable can")
        return
    if not new.ref_path:
        raise InvalidError(f"{new.source} secret needs a ref path")
    if new.source == VAULT and not new.ref_key:
        raise InvalidError("vault secret needs a ref key: the field of the secret's data")
    if new.value:
        raise InvalidError("external secret takes no value")
    if "\0" in new.ref_path + new.ref_key or len(new.ref_path) > 1000 or len(new.ref_key) > 1000:
        raise InvalidError("a ref path or key has at most 1000 characters and no NUL byte")
