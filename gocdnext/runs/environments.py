"""Freezing environments: nothing is deployed into a frozen one, and nobody approves the way there (spec-execution 10)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import InvalidError, NotFoundError

_SQL = queries.load("environments")
MAX_NAME, MAX_REASON, MAX_ACTOR = 64, 500, 320


class Releases(Protocol):
    """The part of the run service that an unfreeze needs."""

    async def release(self, run_id: UUID, environment: str) -> None:
        """The environment no longer holds this run."""


class Environments:
    """Freezes of a project's environments. An environment need not exist to be frozen."""

    def __init__(self, db: Database, runs: Releases, *, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._runs = runs
        self._clock = clock

    async def freeze(self, slug: str, name: str, reason: str, by: str) -> None:
        """Freezes; a second freeze changes reason and actor. Raises InvalidError, NotFoundError."""
        for what, text, limit in (
            ("environment", name, MAX_NAME),
            ("reason", reason, MAX_REASON),
            ("actor", by, MAX_ACTOR),
        ):
            if not text.strip() or len(text) > limit:
                raise InvalidError(f"{what}: between 1 and {limit} characters are needed")

        async def work(conn: Connection) -> bool:
            await conn.execute(_SQL.lock_freezes, slug)
            return await conn.fetchval(_SQL.freeze, slug, name, reason, by, self._clock()) is not None

        if not await self._db.transaction(work):
            raise NotFoundError("project not found")

    async def unfreeze(self, slug: str, name: str) -> bool:
        """Lets the environment go; False when it was not frozen. Runs that it held are looked at again.

        Gates behind it start their clock anew: a freeze must not use up the time people have to decide.
        """

        async def work(conn: Connection) -> list[UUID] | None:
            await conn.execute(_SQL.lock_freezes, slug)
            project_id = await conn.fetchval(_SQL.unfreeze, slug, name)
            if project_id is None:
                return None
            return [row["id"] for row in await conn.fetch(_SQL.held_runs, project_id, name)]

        held = await self._db.transaction(work)
        for run_id in held or ():
            await self._runs.release(run_id, name)
        return held is not None
