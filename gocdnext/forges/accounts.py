"""As whom the server calls a provider for a repository (contract-admin 7.9).

The source's own token goes first, then what is kept for the host, then (GitHub) the active App's installation. A token only
ever goes to the host it was given for.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gocdnext.forges.apps import Apps
from gocdnext.forges.github_app import HEADERS, App, Installations
from gocdnext.forges.places import Place
from gocdnext.outbound.client import Answer, Outbound


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept for a host: a token, and where its API is (empty: at the usual place)."""

    token: str = field(repr=False)
    api: str = ""


Lookup = Callable[[str, str], Awaitable[Stored | None]]
"""What is kept for a provider at a host."""


@dataclass(frozen=True, slots=True)
class Account:
    """A repository with the right to call its provider."""

    outbound: Outbound
    place: Place
    api: str
    headers: dict[str, str] = field(repr=False)
    installation: int | None = None
    """Of a GitHub App, if this is one: only an App may make check runs."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: dict[str, str | int] | None = None,
        repeat: bool = False,
    ) -> Answer:
        """A call below the repository. Raises OutboundError."""
        return await self.outbound.request(
            method,
            f"{self.api}{self.place.below}{path}",
            headers=self.headers,
            json=json,
            params=params,
            repeat=repeat or None,
        )


class Accounts:
    """Finds accounts. Trio side; raises OutboundError, ProviderError and DatabaseUnavailableError."""

    def __init__(self, outbound: Outbound, apps: Apps, installations: Installations, stored: Lookup) -> None:
        self._outbound = outbound
        self._apps = apps
        self._installations = installations
        self._stored = stored

    async def of(self, place: Place, own_token: str = "") -> Account | None:
        """The account for a repository; None when nobody has said how to sign in there."""
        if own_token:
            return self._with_token(place, own_token, place.api)
        kept = await self._stored(place.provider, place.host)
        if kept is not None:
            # Without a word of its own a kept token never goes over the line in clear.
            api = kept.api.rstrip("/") or Place(place.provider, place.host, place.path).api
            return self._with_token(place, kept.token, api)
        return await self._of_app(place) if place.provider == "github" else None

    async def _of_app(self, place: Place) -> Account | None:
        app = await self._app_for(place)
        found = None if app is None else await self._installations.of(app, place)
        if app is None or found is None:
            return None
        headers = HEADERS | {"Authorization": f"Bearer {found.token}"}
        return Account(self._outbound, place, app.api, headers, found.id)

    async def refused(self, account: Account) -> None:
        """A call was refused: an installation that may be gone is looked up anew."""
        app = await self._app_for(account.place)
        if app is not None and account.installation is not None:
            self._installations.forget(app, account.place, account.installation)

    async def _app_for(self, place: Place) -> App | None:
        """The active App, if it belongs to the host of the repository: nobody else's host gets a token of it."""
        active = await self._apps.active()
        return next((app for app in active[:1] if app.api == place.api), None)

    def _with_token(self, place: Place, token: str, api: str) -> Account:
        headers = HEADERS if place.provider == "github" else {"Accept": "application/json"}
        return Account(self._outbound, place, api, headers | authorization(place.provider, token))


def authorization(provider: str, token: str) -> dict[str, str]:
    """The header that a token goes into; one with a colon is a user name and a password (Bitbucket's app passwords)."""
    if ":" in token and provider == "bitbucket":
        return {"Authorization": f"Basic {base64.b64encode(token.encode()).decode()}"}
    return {"PRIVATE-TOKEN": token} if provider == "gitlab" else {"Authorization": f"Bearer {token}"}
