"""Agent tokens: random, kept as hex sha256, compared in constant time. No I/O but randomness."""

from __future__ import annotations

import hashlib
import hmac
import secrets


def token_hash(token: str) -> str:
    """What is stored of a token (protocol-agent 2.1)."""
    return hashlib.sha256(token.encode()).hexdigest()


def matches_hash(token: str, stored_hash: str) -> bool:
    """Whether `token` is the one with this hash; an empty stored hash matches nothing."""
    return bool(stored_hash) and hmac.compare_digest(token_hash(token).encode(), stored_hash.encode())


def matches_token(token: str, expected: str | None) -> bool:
    """Whether `token` is the registration token; without one configured nothing is."""
    return bool(expected) and matches_hash(token, token_hash(expected or ""))


def new_token() -> str:
    """A token with 256 bits of randomness; it is shown once and kept as its hash."""
    return "gna_" + secrets.token_hex(32)
