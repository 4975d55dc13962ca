"""How the runs of a project are told to its provider (contract-admin 6.7). Telling them is in `forges`."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import InvalidError, NotFoundError

BOTH = "both"
MODES = (BOTH, "check_run", "commit_status")
SHOWN = 20
"""Reports that were given up that are shown."""
_SQL = queries.load("status_reports")


@dataclass(frozen=True, slots=True)
class CheckReporting:
    """The setting, and what could not be told lately."""

    mode: str
    given_up: list[asyncpg.Record]


async def read(db: Database, slug: str) -> CheckReporting:
    """Raises NotFoundError."""
    row = await db.fetchrow(_SQL.check_reporting, slug)
    if row is None:
        raise NotFoundError("project not found")
    return CheckReporting(row["check_reporting_mode"], await db.fetch(_SQL.given_up, row["id"], SHOWN))


async def set_mode(db: Database, slug: str, mode: str) -> None:
    """For runs that start from now on. Raises InvalidError, NotFoundError."""
    if mode not in MODES:
        raise InvalidError(f"mode must be one of: {', '.join(MODES)}")
    if await db.fetchval(_SQL.set_check_reporting, slug, mode) is None:
        raise NotFoundError("project not found")
