"""What ties a sign-in to the browser that began it: state, nonce and PKCE, all derived from two random values. Pure.

The state travels through the provider; the browser's own value stays in its cookie. Nonce and verifier follow from both, so
that the database keeps nothing with which somebody could finish a sign-in that another browser began.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

_BYTES = 32
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Proof:
    """The two random values of one sign-in, 64 hexadecimal digits each."""

    state: str = field(repr=False)
    browser: str = field(repr=False)

    @property
    def state_hash(self) -> bytes:
        """The key of the sign-in in the database."""
        return hashlib.sha256(self.state.encode()).digest()

    @property
    def browser_hash(self) -> bytes:
        """How the database knows the browser again."""
        return hashlib.sha256(self.browser.encode()).digest()

    @property
    def nonce(self) -> str:
        """What an ID token must repeat."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """The PKCE verifier (RFC 7636): 43 characters."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        """Its S256 challenge."""
        return _base64url(hashlib.sha256(self.verifier.encode()).digest())

    def _derived(self, purpose: str) -> str:
        text = f"gocdnext sign-in\0{purpose}\0{self.state}"
        return _base64url(hmac.digest(self.browser.encode(), text.encode(), "sha256"))


def make() -> Proof:
    """A new one."""
    return Proof(secrets.token_hex(_BYTES), secrets.token_hex(_BYTES))


def read(state: str, browser: str) -> Proof | None:
    """The one that a browser brought back; None for what nobody can have been given."""
    return Proof(state, browser) if _HEX.fullmatch(state) and _HEX.fullmatch(browser) else None


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
