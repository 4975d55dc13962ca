"""A GitHub App: who it is, proved by a JWT of its own key, and the short-lived tokens of its installations.

Tokens stay in memory, until shortly before they expire. Nothing here knows what they are used for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import trio
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from gocdnext.errors import InvalidError
from gocdnext.forges.errors import checked, number
from gocdnext.forges.places import Place
from gocdnext.outbound.client import Outbound
from gocdnext.outbound.errors import BadAnswerError

API = "https://api.github.com"
HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
EARLIER = timedelta(minutes=5)
"""How long before its end a token is not used any more."""
JWT_LIFE = 9 * 60
"""Seconds; GitHub takes ten minutes at most."""
CLOCK_SKEW = 60
LOOKED_UP_FOR = timedelta(minutes=10)
"""How long it is remembered where the App is installed, and where not."""
REMEMBERED = 2000
MIN_BITS = 2048


@dataclass(frozen=True, slots=True)
class App:
    """An App that may be used. `id` is None for the one of the environment."""

    app_id: int
    name: str
    key: RSAKey = field(repr=False)
    api: str = API
    webhook_secret: str = field(default="", repr=False)
    id: UUID | None = None
    display_name: str = ""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Installation:
    """An App's right to a repository."""

    id: int
    token: str = field(repr=False)


def read_key(pem: str) -> RSAKey:
    """The key in a PEM text. Raises InvalidError, which holds nothing of it."""
    try:
        key = RSAKey.import_key(pem.strip())
        if not key.is_private or key.public_key.key_size < MIN_BITS:
            raise ValueError
    except (JoseError, ValueError, TypeError):
        problem = InvalidError(
            f"the private key is not an RSA key of at least {MIN_BITS} bits in PEM, as GitHub gives it"
        )
    else:
        return key
    raise problem


class Installations:
    """Tokens of installations, made when they are needed. Trio side; errors are ProviderError and OutboundError."""

    def __init__(self, outbound: Outbound, clock: Callable[[], datetime]) -> None:
        self._outbound = outbound
        self._clock = clock
        self._places: dict[tuple[int, str, str], tuple[datetime, int | None]] = {}
        self._tokens: dict[tuple[int, str, int], tuple[datetime, str]] = {}
        self._making: dict[tuple[int, str, int], trio.Lock] = {}

    async def of(self, app: App, place: Place) -> Installation | None:
        """The App's installation on a repository, with a token that is good for a while; None when there is none."""
        found = await self._installation(app, place)
        if found is None:
            return None
        return Installation(found, await self._token(app, found))

    def forget(self, app: App, place: Place, installation: int) -> None:
        """A token was refused, or the repository is not there: look again next time."""
        self._places.pop((app.app_id, app.api, place.path.lower()), None)
        self._tokens.pop((app.app_id, app.api, installation), None)

    async def _installation(self, app: App, place: Place) -> int | None:
        key = app.app_id, app.api, place.path.lower()
        known = self._places.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        answer = await self._outbound.request("GET", f"{app.api}{place.below}/installation", headers=self._signed(app))
        found: int | None = None
        if answer.status != 404:
            found = number(checked(answer, "looking for the installation of the GitHub App").mapping(), "id")
        _bound(self._places)
        self._places[key] = (self._clock() + LOOKED_UP_FOR, found)
        return found

    async def _token(self, app: App, installation: int) -> str:
        """One at a time for each installation: a burst of reports asks once."""
        key = app.app_id, app.api, installation
        async with self._making.setdefault(key, trio.Lock()):
            known = self._tokens.get(key)
            if known is not None and known[0] - EARLIER > self._clock():
                return known[1]
            url = f"{app.api}/app/installations/{installation}/access_tokens"
            answer = await self._outbound.request("POST", url, headers=self._signed(app), repeat=True)
            made = checked(answer, "asking for a token of the GitHub App").mapping()
            token, expires = made.get("token"), _moment(made.get("expires_at"))
            if not isinstance(token, str) or not token or expires is None:
                raise BadAnswerError("GitHub gave a token without text or end")
            _bound(self._tokens)
            self._tokens[key] = (expires, token)
            return token

    def _signed(self, app: App) -> dict[str, str]:
        now = int(self._clock().timestamp())
        claims = {"iss": str(app.app_id), "iat": now - CLOCK_SKEW, "exp": now + JWT_LIFE}
        return HEADERS | {"Authorization": f"Bearer {jwt.encode({'alg': 'RS256'}, claims, app.key)}"}


def _bound(
    memory: dict[tuple[int, str, str], tuple[datetime, int | None]] | dict[tuple[int, str, int], tuple[datetime, str]],
) -> None:
    if len(memory) >= REMEMBERED:
        memory.clear()


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
