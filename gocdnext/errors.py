"""The errors that services raise and boundaries translate: one class per answer a caller can act on.

The HTTP boundary has the one table from these to status codes; the message is shown to the user as it is.
"""

from __future__ import annotations


class DomainError(Exception):
    """Base of all. `str(error)` says what is wrong and, where it can be known, what to do next; never a secret."""

    def __init__(self, message: str, *, details: object = None) -> None:
        super().__init__(message)
        self.details = details


class InvalidError(DomainError):
    """The request cannot be understood (400)."""


class ForbiddenError(DomainError):
    """The caller is known and may not do this (403)."""


class NotFoundError(DomainError):
    """The thing does not exist (404)."""


class ConflictError(DomainError):
    """The thing is in a state that does not allow this (409)."""


class TooLargeError(DomainError):
    """The request is over a limit (413)."""


class UnprocessableError(DomainError):
    """The request is understood but cannot be done (422)."""


class NoRoomError(DomainError):
    """There is no room left to store what was sent (507)."""


class UpstreamError(DomainError):
    """Another system did not answer as it should (502)."""


class UnavailableError(DomainError):
    """Not possible now, perhaps later (503)."""
