"""The secrets of projects and the global ones: listed by name, set, removed; opened for the jobs of a run (contract-admin 5).

Trio side; every method may raise DatabaseUnavailableError. Values go in and into assignments, nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import InvalidError, NotFoundError
from gocdnext.runs.assignment import ProfileValues, SecretValues
from gocdnext.secrets import profiles, resealing
from gocdnext.secrets.sealing import Keyring, Sealed, UnsealError

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
        self, db: Database, keyring: Keyring, *, clock: Callable[[], datetime], new_id: Callable[[], UUID]
    ) -> None:
        self._db = db
        self._keyring = keyring
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
        _check(new)
        project_id = await self._project(slug)
        sealed = self._keyring.seal(new.value, _purpose(project_id, new.name))
        statement = _SQL.set_global if project_id is None else _SQL.set
        created: bool = await self._db.fetchval(
            statement,
            self._new_id(),
            project_id,
            new.name,
            new.source,
            sealed.data,
            sealed.key_id,
            None,
            None,
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
        """The values that jobs and notifications of a run ask for, and those of runner profiles."""
        known, unreadable, withheld = {}, {}, {}

        async def work(conn: Connection) -> tuple[list[asyncpg.Record], dict[str, ProfileValues]]:
            return await conn.fetch(_SQL.of_run, run_id), await profiles.for_jobs(conn, self._keyring)

        rows, of_profiles = await self._db.run(work)
        for row in rows:
            if row["from_fork"]:
                withheld[row["name"]] = WITHHELD
                continue
            try:
                known[row["name"]] = self._open(row)
            except UnsealError as error:
                unreadable[row["name"]] = str(error)
        if unreadable:
            _log.error("secrets cannot be opened", run_id=str(run_id), secrets=unreadable)
        return SecretValues(known, unreadable | withheld, of_profiles)

    async def reseal(self) -> int:
        """Seals everything with the newest key that is sealed with another; how many were (`resealing.reseal`)."""
        return await resealing.reseal(
            self._db,
            self._keyring,
            _SQL.under_other_keys,
            _SQL.sealed_anew,
            lambda row: _purpose(row["project_id"], row["name"]),
        )

    def _open(self, row: asyncpg.Record) -> str:
        return self._keyring.open(Sealed(row["key_id"], row["value_sealed"]), _purpose(row["project_id"], row["name"]))

    async def _project(self, slug: str | None) -> UUID | None:
        if slug is None:
            return None
        project_id: UUID | None = await self._db.fetchval(_PROJECTS.id_of_slug, slug)
        if project_id is None:
            raise NotFoundError("project not found")
        return project_id


def _purpose(project_id: UUID | None, name: str) -> str:
    """What a value is sealed for: a secret of another project or name does not open in its place."""
    return f"secret {project_id or 'global'} {name}"


def _check(new: NewSecret) -> None:
    """Raises InvalidError with the words of contract-admin 5.4."""
    if not new.name:
        raise InvalidError("name is required")
    if _NAME.fullmatch(new.name) is None:
        raise InvalidError(f'store: secret name must match {PATTERN} (got "{new.name[:80]}")')
    if new.source in ("vault", "gcp", "aws"):
        raise InvalidError(f'secret source "{new.source}" is not configured on this server')
    if new.source != DB:
        raise InvalidError(f'unknown secret source "{new.source[:80]}"')
    if new.ref_path or new.ref_key:
        raise InvalidError("db secret takes no ref path/key")
    if "\0" in new.value:
        raise InvalidError("a secret cannot hold a NUL byte: no environment variable can")
