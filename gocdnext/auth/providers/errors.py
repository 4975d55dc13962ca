"""How a sign-in by a provider fails. What the caller is told says nothing of the reason: that is for the log and the admins."""

from __future__ import annotations

from gocdnext.errors import UpstreamError

REJECTED = "provider rejected the sign-in"
INCOMPLETE = "provider did not return full profile (email/subject missing)"


class RejectedError(UpstreamError):
    """The provider did not vouch for anybody (502). `reason` is safe to log: it holds no code, token or secret."""

    def __init__(self, reason: str, told: str = REJECTED) -> None:
        super().__init__(told)
        self.reason = reason


class UnknownKeyError(RejectedError):
    """A signature that none of the keys we know has made; the provider may have new ones."""


def incomplete(reason: str) -> RejectedError:
    """The error for somebody of whom the provider says too little."""
    return RejectedError(reason, INCOMPLETE)
