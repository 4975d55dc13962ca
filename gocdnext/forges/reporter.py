"""Tells providers how runs stand: a queue in the database that survives restarts and is shared by servers (contract-admin 8.9).

Nothing is added to the path of a run: what is to be told is derived from the runs themselves, and a nudge only makes it sooner.
Only a run's newest state is told. A failure never touches the run; after MAX_TRIES it is given up, visibly.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import asyncpg
import structlog
import trio

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database, DatabaseUnavailableError
from gocdnext.errors import DomainError
from gocdnext.forges.accounts import Account, Accounts
from gocdnext.forges.errors import ProviderError
from gocdnext.forges.places import place_of
from gocdnext.forges.statuses import Standing, tell
from gocdnext.outbound.errors import BadAnswerError, RefusedTargetError, UnreachableError
from gocdnext.pipeline.fingerprints import normal_git_url

EVERY = 5.0
"""Seconds between two looks when nobody nudges."""
PAUSE = 0.5
"""Seconds at least between two looks."""
LOOK_BACK = timedelta(seconds=60)
"""How much longer than the time of its making a run may take to be committed, with the difference of servers' clocks."""
MAX_AGE = timedelta(hours=1)
"""Runs that were made longer ago, while nobody looked, are nobody's news any more."""
LEASE = timedelta(seconds=90)
"""How long a server that died keeps others from telling."""
TELL_WITHIN = 60.0
"""Seconds for one report, all its calls together; shorter than the lease."""
AT_ONCE = 8
BATCH = 32
MAX_TRIES = 12
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 900.0
"""Seconds before the second try, and at most before any later one: twelve tries are about an hour and a half."""
APP_DELIVERIES_KEPT = timedelta(days=30)

_SQL = queries.load("status_reports")
_log = structlog.get_logger("forges")


class Counting(Protocol):
    """Where reports are counted."""

    def status_reported(self, provider: str, outcome: str) -> None:
        """`outcome`: told, none, again or given_up."""


class Reporter:
    """Tells providers how runs stand. Trio side."""

    def __init__(
        self,
        db: Database,
        accounts: Accounts,
        *,
        public_base: str,
        clock: Callable[[], datetime],
        counting: Counting,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`draw` gives numbers from 0 to 1."""
        self._db = db
        self._accounts = accounts
        self._base = public_base
        self._clock = clock
        self._counting = counting
        self._draw = draw
        self._news = trio.Event()

    def nudge(self) -> None:
        """A run has changed: look soon."""
        self._news.set()

    async def run(self) -> None:
        """Tells until cancelled."""
        while True:
            try:
                await self.once()
            except DatabaseUnavailableError as error:
                _log.warning("the database is away", sweeper="status reports", error=str(error))
            await trio.sleep(PAUSE)
            with trio.move_on_after(EVERY):
                await self._news.wait()
            self._news = trio.Event()

    async def once(self) -> int:
        """One look and everything that is due then; how many were tried. Raises DatabaseUnavailableError."""
        await self._db.transaction(self._notice)
        tried = 0
        while rows := await self._taken():
            tried += len(rows)
            await self._tell_all(rows)
        return tried

    async def _notice(self, conn: Connection) -> None:
        """Takes up new runs and changed ones; one server at a time."""
        if not await conn.fetchval(_SQL.try_lock):
            return
        now = self._clock()
        until = await conn.fetchval(_SQL.noticed_until)
        since = max(now - MAX_AGE, until - LOOK_BACK) if until is not None else now - LOOK_BACK
        await conn.execute(_SQL.notice, since, now)
        await conn.execute(_SQL.follow, now)
        await conn.execute(_SQL.set_noticed, now)

    async def _taken(self) -> list[asyncpg.Record]:
        now = self._clock()
        return await self._db.transaction(lambda conn: conn.fetch(_SQL.take, now, now + LEASE, BATCH))

    async def _tell_all(self, rows: list[asyncpg.Record]) -> None:
        limit = trio.CapacityLimiter(AT_ONCE)

        async def one(row: asyncpg.Record) -> None:
            async with limit:
                await self._tell(row)

        async with trio.open_nursery() as nursery:
            for row in rows:
                nursery.start_soon(one, row)

    async def _tell(self, row: asyncpg.Record) -> None:
        """One report from its attempt to what is kept of it."""
        account: Account | None = None
        try:
            account = await self._account(row)
            if account is None:
                await self._keep_failure(row, "none", "", None, None)
                return
            check = await _told_in_time(account, self._standing(row))
        except DomainError as error:
            if account is not None and isinstance(error, ProviderError) and error.status in (401, 403, 404):
                await self._accounts.refused(account)
            await self._failed(row, error, account)
            return
        await self._db.execute(
            _SQL.told,
            row["run_id"],
            row["taken_until"],
            row["wanted"],
            self._clock(),
            check,
            account.installation,
        )
        self._counting.status_reported(row["provider"], "told")

    async def _account(self, row: asyncpg.Record) -> Account | None:
        place = place_of(row["provider"], row["url"])
        if place is None:
            return None
        # The source's own token is for its own repository only.
        own = row["auth_ref"] if row["source_url"] == normal_git_url(row["url"]) else None
        return await self._accounts.of(place, own or "")

    def _standing(self, row: asyncpg.Record) -> Standing:
        return Standing(
            run_id=row["run_id"],
            counter=row["counter"],
            project=row["slug"],
            pipeline=row["pipeline"],
            sha=row["sha"],
            status=row["wanted"],
            link=run_page(self._base, row["run_id"]),
            mode=row["mode"],
            newest=row["newest"],
            retried=row["attempts"] > 0 or row["told"] is not None,
            check_run=row["check_run_id"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
        )

    async def _failed(self, row: asyncpg.Record, error: DomainError, account: Account | None) -> None:
        """Again later, or never: what will not change by waiting is given up at once, a new state of the run is a new try."""
        again, asked = _worth_repeating(error)
        tries = row["attempts"] + 1
        pause = None
        if again and tries < MAX_TRIES:
            grown = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1))
            pause = max(asked or 0.0, grown * (0.5 + self._draw()))
        await self._keep_failure(row, "given_up" if pause is None else "pending", str(error), pause, account)

    async def _keep_failure(
        self, row: asyncpg.Record, state: str, why: str, pause: float | None, account: Account | None
    ) -> None:
        now = self._clock()
        kept = await self._db.fetchval(
            _SQL.failed,
            row["run_id"],
            row["taken_until"],
            row["wanted"],
            now,
            now + timedelta(seconds=pause or 0.0),
            state,
            why or None,
            None,
            None if account is None else account.installation,
        )
        self._counting.status_reported(row["provider"], {"pending": "again"}.get(state, state))
        if kept == "given_up":
            _log.error(
                "how a run stands could not be told to the provider, it is given up",
                run_id=str(row["run_id"]),
                project=row["slug"],
                provider=row["provider"],
                tries=row["attempts"] + 1,
                why=why,
            )


async def _told_in_time(account: Account, standing: Standing) -> int | None:
    with trio.move_on_after(TELL_WITHIN):
        return await tell(account, standing)
    raise UnreachableError(f"{account.place.host} was not done within {TELL_WITHIN:g} s")


def run_page(base: str, run_id: UUID) -> str:
    """The address of a run's page, or empty without a public address of the server."""
    return f"{base}/runs/{run_id}" if base else ""


def _worth_repeating(error: DomainError) -> tuple[bool, float | None]:
    """Whether a later try may go better, and the seconds that the provider asks to wait."""
    if isinstance(error, ProviderError):
        return error.again, error.after
    return not isinstance(error, (RefusedTargetError, BadAnswerError)), None


async def forget_deliveries(db: Database, now: datetime) -> int:
    """Removes what GitHub will not send again; how many. Raises DatabaseUnavailableError."""
    gone: int = await db.fetchval(_SQL.forget_app_deliveries, now - APP_DELIVERIES_KEPT)
    return gone
