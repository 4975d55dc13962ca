"""Keys in a backup: sealed with a passphrase (scrypt, AES-256-GCM), bound to the archive they lie in. No I/O.

A document of JSON: the cost of the passphrase, salt, nonce, and the sealed names and keys.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gocdnext.backup.errors import ArchiveError, PassphraseError
from gocdnext.secrets.sealing import KEY_BYTES

SHORTEST = 12
"""Characters of a passphrase."""
COST, BLOCKS, LANES = 2**17, 8, 1
"""scrypt's n, r and p: 128 MiB and about half a second for each guess."""
HIGHEST_COST = 2**20
"""What an archive may ask of whoever opens it: 1 GiB."""
NAME = re.compile(r"secrets(?:-[0-9a-f]{16})?|artifact-links|agent-registration|operator-token")
"""The keys that a state directory may have; see `db.statedir`."""


class _Document(msgspec.Struct, frozen=True):
    kdf: str
    n: int
    salt: bytes
    nonce: bytes
    sealed: bytes


def require_good(passphrase: str) -> None:
    """Raises PassphraseError for one that is too short to protect anything."""
    if len(passphrase) < SHORTEST:
        raise PassphraseError(f"a passphrase for keys needs at least {SHORTEST} characters")


def seal(keys: Mapping[str, bytes], passphrase: str, bound_to: bytes) -> bytes:
    """The document. Takes about half a second."""
    salt, nonce = os.urandom(16), os.urandom(12)
    sealed = AESGCM(_derived(passphrase, salt, COST)).encrypt(nonce, msgspec.json.encode(dict(keys)), bound_to)
    return msgspec.json.encode(_Document("scrypt", COST, salt, nonce, sealed))


def unseal(document: bytes, passphrase: str, bound_to: bytes) -> dict[str, bytes]:
    """Names and keys. Raises PassphraseError, and ArchiveError for what is no such document."""
    try:
        parts = msgspec.json.decode(document, type=_Document)
    except msgspec.MsgspecError:
        raise ArchiveError("the archive is damaged: its keys cannot be read") from None
    if parts.kdf != "scrypt" or not 2**14 <= parts.n <= HIGHEST_COST or parts.n & (parts.n - 1):
        raise ArchiveError("this is not an archive of gocdnext: its keys are sealed in another way")
    try:
        opened = AESGCM(_derived(passphrase, parts.salt, parts.n)).decrypt(parts.nonce, parts.sealed, bound_to)
        keys = msgspec.json.decode(opened, type=dict[str, bytes])
    except (InvalidTag, ValueError):
        raise PassphraseError(
            "the keys in this archive do not open with this passphrase. Nothing was changed. Try again with the right one, or "
            "restore without keys (--without-keys) and put secrets.key in place yourself."
        ) from None
    if any(NAME.fullmatch(name) is None or len(key) != KEY_BYTES for name, key in keys.items()):
        raise ArchiveError("this is not an archive of gocdnext: it has keys that no server has")
    return keys


def _derived(passphrase: str, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=cost, r=BLOCKS, p=LANES).derive(passphrase.encode())
