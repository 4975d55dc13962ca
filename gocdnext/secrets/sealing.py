"""Sealing: AES-256-GCM with a random nonce, bound to what a value is for (contract-admin 5.1). No I/O.

    sealed = nonce (12 bytes) + ciphertext + tag (16 bytes)

Every sealed value is kept with the id of its key, so that a value under another key is told from a damaged one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_CHARACTERS = 16


class UnsealError(Exception):
    """A value cannot be opened; the text says why and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed value and the id of the key it was sealed with."""

    key_id: str
    data: bytes = field(repr=False)


class Keyring:
    """The keys of a server. New values are sealed with the first; the others only open what is older."""

    def __init__(self, keys: Iterable[bytes], more: Callable[[], Iterable[bytes]] | None = None) -> None:
        """Each of `keys` has KEY_BYTES bytes; there is at least one. `more` tells the keys as they are now, where they can
        change while the server runs. Raises ValueError."""
        self._more = more
        self._take(keys)

    def look_again(self) -> None:
        """Takes the keys as they are now. Raises what `more` raises."""
        if self._more is not None:
            self._take(self._more())

    @property
    def older(self) -> list[str]:
        """The ids of the keys that only open."""
        return [name for name in self._ciphers if name != self.newest]

    def _take(self, keys: Iterable[bytes]) -> None:
        ciphers = {key_id(key): AESGCM(key) for key in keys}
        if not ciphers:
            raise ValueError("a keyring needs a key")
        self._ciphers = ciphers
        self.newest = next(iter(ciphers))

    def seal(self, value: str, purpose: str) -> Sealed:
        """Seals a text. It only opens again for the same `purpose`, so that sealed values cannot be swapped."""
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(self.newest, nonce + self._ciphers[self.newest].encrypt(nonce, value.encode(), purpose.encode()))

    def open(self, sealed: Sealed, purpose: str) -> str:
        """The text. Raises UnsealError."""
        if sealed.key_id not in self._ciphers:
            self.look_again()
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise UnsealError(
                f"it was sealed with the key {sealed.key_id}, which this server does not have: "
                "start it with that key, or set the value again"
            )
        try:
            return cipher.decrypt(sealed.data[:_NONCE_BYTES], sealed.data[_NONCE_BYTES:], purpose.encode()).decode()
        except (InvalidTag, ValueError):
            raise UnsealError("it is damaged: set the value again") from None


def key_id(key: bytes) -> str:
    """The name of a key, which says nothing about it. Raises ValueError for what is no key."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes")
    return hashlib.sha256(b"gocdnext key id\0" + key).hexdigest()[:_ID_CHARACTERS]
