"""A revision and its runs in one transaction, tried again when two servers stood in each other's way.

An event of another server may have recorded the same revision and wait for the pipeline that this one holds. PostgreSQL
ends one of the two; that one only has to begin anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import tenacity

from gocdnext.db.pool import Connection, DatabaseUnavailableError
from gocdnext.runs.changes import Create
from gocdnext.runs.service import RunService

T = TypeVar("T")
TRIES = 5


async def in_one_transaction(runs: RunService, work: Callable[[Connection, Create], Awaitable[T]]) -> T:
    """`RunService.create_in`, up to TRIES times. Raises DatabaseUnavailableError also when all of them were ended so: the
    same may work later."""
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(TRIES),
        retry=tenacity.retry_if_exception_type(asyncpg.DeadlockDetectedError),
        reraise=True,
    )
    try:
        return await retrying(runs.create_in, work)
    except asyncpg.DeadlockDetectedError as error:
        raise DatabaseUnavailableError(f"others held what was needed, {TRIES} times in a row: {error}") from error
