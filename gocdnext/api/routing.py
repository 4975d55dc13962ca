"""How a route is registered: with its role looked up in the one table, and with its verbs exactly as declared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from quart import Blueprint, Response
from quart.routing import QuartRule

from gocdnext.auth import roles

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response]])


class Rule(QuartRule):
    """A rule that serves HEAD only when it says so: the reference answers 405 (contract-runs 0.2)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.methods is not None:
            self.methods.discard("HEAD")


def route(blueprint: Blueprint, method: str, path: str) -> Callable[[Handler], Handler]:
    """Registers a handler. Raises LookupError for a route that has no entry in `auth.roles`."""
    roles.minimum(method, path)

    def register(handler: Handler) -> Handler:
        blueprint.add_url_rule(path, handler.__name__, handler, methods=[method], provide_automatic_options=False)
        return handler

    return register
