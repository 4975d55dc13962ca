"""How a route is registered: with its role looked up in the one table, with its verbs exactly as declared, and with what
the audit trail says of it when it changes something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from quart import Blueprint, Response
from quart.routing import QuartRule

from gocdnext.api.trail import Audited
from gocdnext.auth import roles

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
NOT_AUDITED = None
"""For a route that changes something and says so elsewhere: the reason belongs beside it."""
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response]])


class Rule(QuartRule):
    """A rule that serves HEAD only when it says so: the reference answers 405 (contract-runs 0.2)."""

    def __init__(self, *args: Any, audited: Audited | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.audited = audited
        if self.methods is not None:
            self.methods.discard("HEAD")


class _Undeclared:
    """The default of `audited`, so that nothing that changes something is left out by being forgotten."""


_UNDECLARED = _Undeclared()


def route(
    blueprint: Blueprint, method: str, path: str, audited: Audited | _Undeclared | None = _UNDECLARED
) -> Callable[[Handler], Handler]:
    """Registers a handler. Raises LookupError for a route that has no entry in `auth.roles`, and for one that changes
    something and does not say what the audit trail is to tell of it."""
    roles.minimum(method, path)
    if isinstance(audited, _Undeclared):
        if method not in SAFE:
            raise LookupError(f"{method} {path} changes something: say what the audit trail tells of it")
        audited = None
    told = audited

    def register(handler: Handler) -> Handler:
        blueprint.add_url_rule(
            path, handler.__name__, handler, methods=[method], provide_automatic_options=False, audited=told
        )
        return handler

    return register
