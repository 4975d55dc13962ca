"""Why a call to somebody else gave nothing. The texts name the host at most: a path, a query or a header may be a secret."""

from __future__ import annotations

from gocdnext.errors import DomainError, UnavailableError, UpstreamError


class OutboundError(DomainError):
    """Base of all; safe to show, to store and to log."""


class OfflineError(OutboundError, UnavailableError):
    """The operator forbade every outgoing call (`GOCDNEXT_OFFLINE`)."""

    def __init__(self, what: str = "an outgoing call") -> None:
        super().__init__(f"{what} is refused: this server is offline (GOCDNEXT_OFFLINE=true)")


class RefusedTargetError(OutboundError, UpstreamError):
    """The target is not one that this server may call; nothing was sent."""


class UnreachableError(OutboundError, UpstreamError):
    """No answer: no name, no connection, no TLS, a broken connection, or no end in time. A later try may do."""

    def __init__(self, message: str, *, undone: bool = False) -> None:
        """`undone`: nothing had been sent yet, so that nothing can have happened there."""
        super().__init__(message)
        self.undone = undone


class BadAnswerError(OutboundError, UpstreamError):
    """There was an answer, and it is not one: too large, not HTTP, not JSON."""
