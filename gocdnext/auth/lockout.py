"""How often a password may be tried for one e-mail (contract-admin 1.5). In memory, for this process, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from gocdnext.errors import DomainError

TRIES = 5
WINDOW = timedelta(minutes=10)
"""Within this time TRIES failures lock an e-mail, and for this time."""
MOST = 10_000
"""E-mails that are remembered; beyond that the one that was quiet for longest is forgotten."""


class TooManyTriesError(DomainError):
    """Too many wrong passwords (429)."""


class Lockout:
    """Counts failures by e-mail. A try counts as a failure from its beginning: many at once get no more than five."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._tries: dict[str, deque[datetime]] = {}

    def begin(self, email: str) -> datetime:
        """Counts a try; what it returns is for `withdraw`. Raises TooManyTriesError when the e-mail is locked."""
        now = self._clock()
        tries = self._tries.pop(email, deque(maxlen=TRIES))
        self._tries[email] = tries
        if len(tries) == TRIES:
            if now - tries[-1] < WINDOW:
                raise TooManyTriesError("too many attempts; try again later")
            tries.clear()
        while tries and now - tries[0] >= WINDOW:
            tries.popleft()
        tries.append(now)
        while len(self._tries) > MOST:
            del self._tries[next(iter(self._tries))]
        return now

    def succeeded(self, email: str) -> None:
        """The password was right: the e-mail starts anew."""
        self._tries.pop(email, None)

    def withdraw(self, email: str, begun: datetime) -> None:
        """The try came to no answer, for reasons of ours."""
        tries = self._tries.get(email)
        if tries is not None and begun in tries:
            tries.remove(begun)
