"""What goes wrong between here and the server, as users are told."""

from __future__ import annotations


class ClientError(Exception):
    """Base of what goes wrong between here and the server. `str(error)` is for the user."""


class ApiError(ClientError):
    """The server answered, and the answer is no. `status` is the HTTP code, `message` what the server says."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"server returned {status}: {message}")
        self.status = status
        self.message = message


class CannotReachError(ClientError):
    """No answer: nobody listens there, the name is unknown, or the connection broke."""
