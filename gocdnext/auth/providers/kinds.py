"""What every kind of provider can do, and how it is called over the network."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

from gocdnext.auth.providers.errors import RejectedError
from gocdnext.auth.providers.profile import Profile
from gocdnext.auth.providers.proof import Proof
from gocdnext.config import SignInProvider
from gocdnext.outbound.client import Answer
from gocdnext.outbound.errors import BadAnswerError

CALL_WITHIN = 10.0
"""Seconds for one call to a provider."""
MAX_BYTES = 256 * 1024
"""Of any answer: profiles are small, and key sets are a few keys."""


class Provider(Protocol):
    """One provider in force."""

    settings: SignInProvider

    @property
    def issuer(self) -> str:
        """Who vouches for its people: two providers with the same subject mean two people."""

    async def load(self) -> None:
        """Learns, or learns anew, what must be known before anybody can be sent there.

        Raises OutboundError, RejectedError; what was known before stays.
        """

    def address(self, redirect_uri: str, proof: Proof) -> str:
        """Where the browser is sent."""

    def is_from(self, iss: str | None) -> bool:
        """Whether an answer that names this issuer, or none, can be this provider's (RFC 9207)."""

    async def profile(self, code: str, redirect_uri: str, proof: Proof) -> Profile:
        """Whom the code of a callback stands for. Raises OutboundError, RejectedError."""


def address(endpoint: str, parameters: dict[str, str]) -> str:
    """An endpoint with parameters; those that it has already stay."""
    parts = urlsplit(endpoint)
    query = "&".join(each for each in (parts.query, urlencode(parameters)) if each)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def good(answer: Answer, what: str) -> Answer:
    """The answer, if it is a good one. Raises RejectedError."""
    if not answer.ok:
        raise RejectedError(f"{what} answered {answer.status}{_code(answer)}")
    return answer


def _code(answer: Answer) -> str:
    """OAuth's own word for what is wrong (RFC 6749 5.2), if there is one: one word, never what was sent."""
    try:
        said = answer.mapping().get("error")
    except BadAnswerError:
        return ""
    return f" ({said})" if isinstance(said, str) and is_error_code(said) else ""


def is_error_code(text: str) -> bool:
    """Whether a text is a word as OAuth's errors are."""
    return 0 < len(text) <= 64 and text.isascii() and text.replace("_", "").isalnum()
