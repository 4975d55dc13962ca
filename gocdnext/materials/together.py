"""A revision and its runs in one transaction, tried again when two servers stood in each other's way.

An event of another server may have recorded the same revision and wait for the pipeline that this one holds. PostgreSQL
ends one of the two; that one only has to begin anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Protocol, TypeVar

import asyncpg
import tenacity

from gocdnext.db.pool import Connection, DatabaseUnavailableError
from gocdnext.runs.crowd import Create

T = TypeVar("T")
TRIES = 5


class Runs(Protocol):
    """What this room asks of the runs room."""

    async def create_in(self, work: Callable[[Connection, Create], Awaitable[T]], *, kind: Hashable = None) -> T:
        """One transaction with runs in it."""


async def again_after_deadlocks(
    runs: Runs, work: Callable[[Connection, Create], Awaitable[T]], tries: int, *, kind: Hashable = None
) -> T:
    """`RunService.create_in`, up to `tries` times. Raises DeadlockDetectedError when all of them were ended so."""
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(tries),
        retry=tenacity.retry_if_exception_type(asyncpg.DeadlockDetectedError),
        reraise=True,
    )
    return await retrying(runs.create_in, work, kind=kind)


async def in_one_transaction(runs: Runs, work: Callable[[Connection, Create], Awaitable[T]]) -> T:
    """`again_after_deadlocks`; DatabaseUnavailableError also when all tries were ended so: the same may work later."""
    try:
        return await again_after_deadlocks(runs, work, TRIES)
    except asyncpg.DeadlockDetectedError as error:
        raise DatabaseUnavailableError(f"others held what was needed, {TRIES} times in a row: {error}") from error
