"""What API tokens and session cookies look like, and how they are made and hashed (contract-admin 1.3, 1.4). Pure.

Both are random enough that a plain SHA-256 keeps them: there is nothing to guess, so nothing to slow down.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import NamedTuple

USER_PREFIX = "gnk_"
SERVICE_PREFIX = "gnk_sa_"
COOKIE = "gocdnext_session"
SHOWN = 8
"""Characters of a token's body that lists show."""
_RANDOM_BYTES = 32
_BODY = re.compile(r"[0-9A-V]{52}")
_COOKIE_VALUE = re.compile(r"[0-9a-f]{64}")


class NewToken(NamedTuple):
    """A token that was just made: the only moment at which it is known whole."""

    plaintext: str
    hash: str
    prefix: str


class Presented(NamedTuple):
    """A token that a caller showed, as far as it can be judged without a look: its kind and its hash."""

    for_service_account: bool
    hash: str


def make(*, for_service_account: bool) -> NewToken:
    """A new random token."""
    body = base64.b32hexencode(secrets.token_bytes(_RANDOM_BYTES)).decode().rstrip("=")
    prefix = SERVICE_PREFIX if for_service_account else USER_PREFIX
    return NewToken(prefix + body, _hash(body), body[:SHOWN])


def read(token: str) -> Presented | None:
    """What a presented token is; None for one that nobody can have been given."""
    for prefix, for_service_account in ((SERVICE_PREFIX, True), (USER_PREFIX, False)):
        body = token.removeprefix(prefix)
        if body != token and _BODY.fullmatch(body):
            return Presented(for_service_account, _hash(body))
    return None


def make_cookie() -> str:
    """The value of a new session cookie: 64 hexadecimal digits."""
    return secrets.token_hex(_RANDOM_BYTES)


def cookie_hash(value: str) -> bytes | None:
    """The key under which a session is stored; None for a value that is no session cookie."""
    return hashlib.sha256(value.encode()).digest() if _COOKIE_VALUE.fullmatch(value) else None


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
