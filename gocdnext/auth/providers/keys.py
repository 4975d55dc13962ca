"""The keys of one provider: fetched when needed, kept for minutes, asked for again when a signature is of none of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
import trio
from joserfc.jwk import KeySet

from gocdnext.auth.providers import id_token
from gocdnext.auth.providers.errors import RejectedError
from gocdnext.auth.providers.kinds import CALL_WITHIN, MAX_BYTES, good
from gocdnext.outbound.client import Outbound
from gocdnext.outbound.errors import OutboundError

_log = structlog.get_logger("signin")
FRESH = timedelta(minutes=10)
"""A key that the provider has withdrawn is good for so long here at most, while the provider answers."""
STALE = timedelta(hours=1)
"""While it does not answer."""
PAUSE = timedelta(seconds=10)
"""Between two fetches for keys that we do not know: anybody can make one up."""


class Keys:
    """The key set at one address. All methods are for trio; one fetch at a time."""

    def __init__(self, outbound: Outbound, clock: Callable[[], datetime], url: str) -> None:
        self.url = url
        self._outbound = outbound
        self._clock = clock
        self._lock = trio.Lock()
        self._keys: KeySet | None = None
        self._fetched = self._forced = datetime.min.replace(tzinfo=clock().tzinfo)

    async def current(self) -> KeySet:
        """The keys as of minutes ago at most; older ones while the provider is away. Raises OutboundError, RejectedError."""
        async with self._lock:
            age = self._clock() - self._fetched
            if self._keys is not None and timedelta() <= age < FRESH:
                return self._keys
            try:
                return await self._fetch()
            except (OutboundError, RejectedError) as error:
                if self._keys is None or age >= STALE:
                    raise
                _log.warning("the keys of a provider cannot be fetched, older ones are used", why=_why(error))
                return self._keys

    async def newer(self, known: KeySet) -> KeySet | None:
        """Other keys than the known ones, if the provider has some; None when it has not, or was asked a moment ago."""
        async with self._lock:
            if self._keys is not None and self._keys is not known:
                return self._keys
            if timedelta() <= self._clock() - self._forced < PAUSE:
                return None
            self._forced = self._clock()
            return await self._fetch()

    async def _fetch(self) -> KeySet:
        answer = await self._outbound.request(
            "GET", self.url, headers=JSON, timeout=CALL_WITHIN, max_bytes=MAX_BYTES, redirects=2
        )
        self._keys = id_token.key_set(good(answer, "the key set").json())
        self._fetched = self._clock()
        return self._keys


JSON = {"Accept": "application/json"}


def _why(error: OutboundError | RejectedError) -> str:
    return error.reason if isinstance(error, RejectedError) else str(error)
