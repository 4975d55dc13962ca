"""The room of identity: what its services share. Made once by the server; the routes reach everything through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from gocdnext.auth.callers import Callers
from gocdnext.auth.lockout import Lockout
from gocdnext.auth.passwords import Hasher
from gocdnext.auth.setup import SetupCode
from gocdnext.db.pool import Database, T, Work

if TYPE_CHECKING:
    from gocdnext.auth.providers.registry import Providers


class Room:
    """Database, clock, and what remembers: look-ups, failed tries, running hashes, the set-up code, the providers."""

    def __init__(
        self,
        db: Database,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
        *,
        operator_token: str | None = None,
        setup_code: SetupCode | None = None,
    ) -> None:
        self.db = db
        self.clock = clock
        self.new_id = new_id
        self.operator_token = operator_token
        self.setup_code = setup_code
        self.callers = Callers(db, clock)
        self.hasher = Hasher()
        self.lockout = Lockout(clock)
        self.providers: Providers | None = None
        """By whom else people may sign in; the server sets it. None: beside the server."""

    @property
    def ways_in(self) -> list[str] | None:
        """The providers that people can sign in by now; None where that is not known, or authentication is off."""
        known = self.providers
        return known.configured if known is not None and known.settings.auth_enabled else None

    async def change(self, work: Work[T]) -> T:
        """One transaction that changes who may do what; what was known of callers is forgotten once it is over."""
        async with self._forgetting():
            return await self.db.transaction(work)

    @asynccontextmanager
    async def _forgetting(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            # Also after an error: a commit may have happened although nobody told us.
            self.callers.forget()
