"""How a route is registered: with its role looked up in the one table, with its verbs exactly as declared, with what the
audit trail says of it when it changes something, and with what it takes and gives, which is its part of the API's document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from quart import Blueprint, Response
from quart.routing import QuartRule

from gocdnext.api.respond import JSON
from gocdnext.api.trail import Audited
from gocdnext.auth import roles

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
NOT_AUDITED = None
"""For a route that changes something and says so elsewhere: the reason belongs beside it."""
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response]])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One more good answer of a route: another status, or another content type with the same one."""

    gives: Any = None
    status: int = 200
    media: str = JSON


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a route takes and gives, as the API's document says it."""

    gives: Any = None
    """The type of the body of a good answer: a message, `list[message]`, `str` for text, `bytes` for anything else;
    None for none."""
    status: int = 200
    """The status of a good answer."""
    media: str = JSON
    """The content type of a good answer that has a body."""
    also: tuple[Answer, ...] = ()
    """The other good answers."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of good answers that belong to the contract, and what each says."""
    stored: bool = True
    """Whether a client may keep the answer: `no-store` where it is False."""
    example: Any = None
    """A good answer, as JSON has it."""
    takes: type[msgspec.Struct] | None = None
    """The message of a JSON request body."""
    sends: Any = None
    """A good request body, as JSON has it."""
    optional: bool = False
    """Whether the body may be left out."""
    forms: Mapping[str, Any] = field(default_factory=dict)
    """Other content types of a request body, and the type of each."""
    asks: type[msgspec.Struct] | None = None
    """The parameters of the query string, a field each."""
    path: Mapping[str, Any] = field(default_factory=dict)
    """The types of variables of the path that are not what `openapi.PATH` takes them for."""
    reads: Mapping[str, str] = field(default_factory=dict)
    """Headers of the request that mean something to this route, and what."""
    fails: frozenset[int] = frozenset()
    """The statuses of refusals beyond those that every route of its kind may give (400, 401, 403, 404, 429, 500, 503)."""

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Every good answer, the usual one first."""
        return (Answer(gives=self.gives, status=self.status, media=self.media), *self.also)


class Rule(QuartRule):
    """A rule that serves HEAD only when it says so: the reference answers 405 (contract-runs 0.2)."""

    def __init__(
        self, *args: Any, audited: Audited | None = None, described: Description | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.audited = audited
        self.described = described
        if self.methods is not None:
            self.methods.discard("HEAD")


class _Undeclared:
    """The default of `audited`, so that nothing that changes something is left out by being forgotten."""


_UNDECLARED = _Undeclared()


def route(
    blueprint: Blueprint,
    method: str,
    path: str,
    audited: Audited | _Undeclared | None = _UNDECLARED,
    described: Description | None = None,
) -> Callable[[Handler], Handler]:
    """Registers a handler. Raises LookupError for a route that has no entry in `auth.roles`, for one that is not
    described, and for one that changes something and does not say what the audit trail is to tell of it."""
    roles.minimum(method, path)
    if isinstance(audited, _Undeclared):
        if method not in SAFE:
            raise LookupError(f"{method} {path} changes something: say what the audit trail tells of it")
        audited = None
    if described is None:
        raise LookupError(f"{method} {path} does not say what it takes and gives: described=Description(...)")
    told = audited

    def register(handler: Handler) -> Handler:
        blueprint.add_url_rule(
            path,
            handler.__name__,
            handler,
            methods=[method],
            provide_automatic_options=False,
            audited=told,
            described=described,
        )
        return handler

    return register
