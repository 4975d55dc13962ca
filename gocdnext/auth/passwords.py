"""Passwords: the policy, Argon2id hashes, and a bound on the work that checking them may cost (contract-admin 1.6).

A check costs tens of milliseconds and 19 MiB whatever is checked: a few run at once in worker threads, some wait, and
whoever comes on top is told to come again. No password and no hash ever leaves this module in a message.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import TypeVar

import trio
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from gocdnext.auth import oldhash
from gocdnext.errors import InvalidError, UnavailableError

T = TypeVar("T")

SHORTEST, LONGEST = 8, 512
"""Bytes of a password."""
MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1
"""The smaller of the two profiles that OWASP recommends for Argon2id: 20 sign-ins at once must fit into a small machine."""
SALT_BYTES, HASH_BYTES = 16, 32
AT_ONCE = 2
WAITING = 64
"""Checks that may wait for one of the AT_ONCE threads: some seconds of work."""
MOST_MEMORY_KIB, MOST_PASSES, MOST_LANES = 256 * 1024, 16, 16
"""What a hash that somebody else wrote may ask of a check; one that asks for more fits no password."""
_ARGON2ID = re.compile(
    rb"\$argon2id\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
)
_CURRENT = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$".encode()


def check_policy(password: str) -> None:
    """Raises InvalidError for a password that is too short or too long."""
    size = len(password.encode("utf-8", "surrogatepass"))
    if size < SHORTEST:
        raise InvalidError(f"store: password does not meet policy: minimum {SHORTEST} characters")
    if size > LONGEST:
        raise InvalidError(f"store: password does not meet policy: maximum {LONGEST} characters")


def hash_now(password: str) -> bytes:
    """A new hash, made in this thread. Servers go through `Hasher`."""
    kdf = Argon2id(
        salt=secrets.token_bytes(SALT_BYTES),
        length=HASH_BYTES,
        iterations=PASSES,
        lanes=LANES,
        memory_cost=MEMORY_KIB,
    )
    return kdf.derive_phc_encoded(_bytes(password)).encode()


def verify_now(password: str, stored: bytes) -> bool:
    """Whether the password is the one behind the hash; a hash that cannot be read is nobody's."""
    match = _ARGON2ID.fullmatch(stored)
    if match is None:
        return oldhash.verify(_bytes(password), stored)
    memory, passes, lanes = map(int, match.groups())
    if memory > MOST_MEMORY_KIB or passes > MOST_PASSES or lanes > MOST_LANES:
        return False
    try:
        Argon2id.verify_phc_encoded(_bytes(password), stored.decode("ascii"))
    except (InvalidKey, ValueError, MemoryError):
        return False
    return True


def is_current(stored: bytes) -> bool:
    """Whether a hash is of the kind that new ones are; others are replaced at the next sign-in."""
    return stored.startswith(_CURRENT)


class Hasher:
    """Hashes and verifies in at most AT_ONCE threads. One for each server."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(AT_ONCE)
        self._nobody = b""
        self.checks = 0
        """Verifications so far: the same number for a known and an unknown account."""

    async def hash(self, password: str) -> bytes:
        """A new hash. Raises UnavailableError when too many wait already."""
        return await self._work(lambda: hash_now(password))

    async def verify(self, password: str, stored: bytes | None) -> bool:
        """Whether the password is right; without a hash the same work is done for nothing. Raises UnavailableError."""
        if stored is None and not self._nobody:
            self._nobody = await self.hash(secrets.token_hex())
        against = self._nobody if stored is None else stored
        self.checks += 1
        right = await self._work(lambda: verify_now(password, against))
        return right and stored is not None

    async def _work(self, work: Callable[[], T]) -> T:
        if self._threads.statistics().tasks_waiting >= WAITING:
            raise UnavailableError("too many sign-ins at once; try again shortly")
        return await trio.to_thread.run_sync(work, limiter=self._threads)


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
