"""Which providers are in force: those of the environment and those of the database, as far as they can be reached.

One that cannot be is left out with a reason, and asked again in a minute; the others go on. What another server changes is
read again as soon as the database says so. Nothing here signs anybody in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import structlog
import trio

from gocdnext.auth.providers import stored
from gocdnext.auth.providers.errors import RejectedError
from gocdnext.auth.providers.github import GitHubProvider
from gocdnext.auth.providers.kinds import Provider
from gocdnext.auth.providers.oidc import OpenIdProvider
from gocdnext.config import Settings, SignInProvider
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.errors import NotFoundError, UnavailableError
from gocdnext.outbound.client import Outbound
from gocdnext.outbound.errors import OutboundError
from gocdnext.secrets.sealing import Keyring, UnsealError

_log = structlog.get_logger("signin")
LOAD_WITHIN = 15.0
"""Seconds in which a provider must tell about itself."""
AGAIN = 60.0
"""Seconds until one that could not be reached is asked again."""
REFRESH = 3600.0
"""Seconds after which all are asked again: addresses and algorithms may change."""
FIRST_WITHIN = 5.0
"""Seconds that a request just after the start waits for the providers to be known."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading the providers: names in force, and why others are not."""

    active: list[str]
    problems: dict[str, str]


class Providers:
    """The providers of this server. One for the life of the process; `run` keeps it up to date."""

    def __init__(
        self, db: Database, keyring: Keyring, outbound: Outbound, settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        self.keyring = keyring
        self.settings = settings
        self.limiter = trio.CapacityLimiter(20)
        """Callbacks that speak with a provider at the same time."""
        self._db = db
        self._outbound = outbound
        self._clock = clock
        self._lock = trio.Lock()
        self._active: dict[str, Provider] = {}
        self._problems: dict[str, str] = {}
        self._changed = trio.Event()
        self._known = trio.Event()
        if not settings.auth_enabled:
            self._known.set()

    @property
    def environment(self) -> tuple[str, ...]:
        """Names of those that the environment sets up."""
        return tuple(each.name for each in self.settings.providers)

    @property
    def configured(self) -> list[str]:
        """Names of all that are switched on, reached or not."""
        return [*self._active, *self._problems]

    @property
    def problems(self) -> dict[str, str]:
        """Why providers that are switched on cannot be used, by name."""
        return dict(self._problems)

    @property
    def policy_problem(self) -> str:
        """Why nobody could come back from a provider; empty when they can."""
        if self.settings.public_base.startswith(("https://", "http://")):
            return ""
        return "GOCDNEXT_PUBLIC_BASE is not set: it is the address that providers send browsers back to"

    def redirect_uri(self, name: str) -> str:
        """Where a provider sends browsers back to."""
        return f"{self.settings.public_base}/auth/callback/{name}"

    async def buttons(self) -> list[tuple[str, str]]:
        """Name and display of those in force, in the order of the login page."""
        await self._first()
        return [(name, provider.settings.display) for name, provider in self._active.items()]

    async def get(self, name: str) -> Provider:
        """One in force. Raises NotFoundError; UnavailableError for one that cannot be reached now."""
        await self._first()
        if name in self._problems:
            raise UnavailableError(f"sign-in by {name} is not possible now; try again in a minute")
        try:
            return self._active[name]
        except KeyError:
            raise NotFoundError("unknown provider") from None

    def changed(self) -> None:
        """Says that the rows have changed. Synchronous, also for asyncio code."""
        self._changed.set()

    async def run(self) -> None:
        """Keeps them up to date until cancelled."""
        asked = trio.current_time()
        while True:
            self._changed = trio.Event()
            try:
                await self.reload(ask_all=trio.current_time() - asked >= REFRESH)
            except DatabaseUnavailableError as error:
                _log.warning("the providers cannot be read", error=str(error))
            if trio.current_time() - asked >= REFRESH:
                asked = trio.current_time()
            with trio.move_on_after(AGAIN if self._problems else REFRESH):
                await self._changed.wait()

    async def reload(self, *, ask_all: bool = False) -> Loaded:
        """Reads them again and asks those that are new or could not be reached; `ask_all`: the others too.

        Raises DatabaseUnavailableError; then everything stays as it was.
        """
        if not self.settings.auth_enabled:
            return Loaded([], {})
        async with self._lock:
            wanted, problems = self._wanted(await stored.listed(self._db))
            found: dict[str, Provider] = {}
            async with trio.open_nursery() as nursery:
                for each in wanted:
                    nursery.start_soon(self._ask, each, found, problems, ask_all)
            self._active = {each.name: found[each.name] for each in wanted if each.name in found}
            for name, why in problems.items():
                if self._problems.get(name) != why:
                    _log.warning("a provider is left out", provider=name, why=why)
            self._problems = problems
            self._known.set()
            return Loaded(list(self._active), dict(problems))

    def _wanted(self, rows: list[asyncpg.Record]) -> tuple[list[SignInProvider], dict[str, str]]:
        """The providers that are switched on, and why some of them are out of the question. A row takes the place of the
        provider of the environment that has its name."""
        wanted: dict[str, SignInProvider | None] = {each.name: each for each in self.settings.providers}
        problems = {}
        for row in rows:
            wanted[row["name"]] = None
            if not row["enabled"]:
                continue
            try:
                wanted[row["name"]] = stored.opened(self.keyring, row)
            except UnsealError as error:
                problems[row["name"]] = f"its secret cannot be opened: {error}"
        switched_on = [each for each in wanted.values() if each is not None]
        for each in switched_on:
            url = each.issuer or each.github_api_base
            why = self.policy_problem or (url and stored.problem_of(url, self._outbound.policy))
            if why:
                problems[each.name] = why if why == self.policy_problem else f"its address {why}"
        return [each for each in switched_on if each.name not in problems], problems

    async def _ask(
        self, wanted: SignInProvider, found: dict[str, Provider], problems: dict[str, str], ask_all: bool
    ) -> None:
        before = self._active.get(wanted.name)
        known = before if before is not None and before.settings == wanted else None
        provider = known or self._made(wanted)
        why = ""
        if known is None or ask_all:
            try:
                with trio.fail_after(LOAD_WITHIN):
                    await provider.load()
            except OutboundError as error:
                why = str(error)
            except RejectedError as error:
                why = error.reason
            except trio.TooSlowError:
                why = f"it did not tell about itself within {LOAD_WITHIN:g} s"
        if why and known is None:
            problems[wanted.name] = why
            return
        if why:
            _log.warning("a provider cannot be asked again, what it said before holds", provider=wanted.name, why=why)
        found[wanted.name] = provider

    def _made(self, wanted: SignInProvider) -> Provider:
        if wanted.kind == "github":
            return GitHubProvider(wanted, self._outbound)
        return OpenIdProvider(wanted, self._outbound, self._clock)

    async def _first(self) -> None:
        with trio.move_on_after(FIRST_WITHIN):
            await self._known.wait()
