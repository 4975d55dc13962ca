"""`/api/v1/me` and `/api/v1/account`: what callers see and change of themselves (contract-admin 2.7, 2.8, 3)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from quart import Blueprint, Response

from gocdnext.api import params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire import identity as wire
from gocdnext.auth import accounts, api_tokens, service_accounts, sessions
from gocdnext.auth.api_tokens import Owner
from gocdnext.auth.identity import SERVICE_ACCOUNT, NotAuthenticatedError
from gocdnext.errors import ForbiddenError, InvalidError, NotFoundError

blueprint = Blueprint("account", __name__)

PREFERENCES = 64 * 1024
PASSWORDS = 32 * 1024
_NO_DATE = "0001-01-01T00:00:00Z"


@route(blueprint, "GET", "/api/v1/me", described=Description(gives=wire.UserAnswer))
async def me() -> Response:
    """Who is calling (2.7)."""
    subject, room = people.caller(), services().identity
    if subject.id is None:
        operator = wire.User(
            id=str(UUID(int=0)),
            email="",
            name=subject.name,
            provider=subject.provider,
            external_id="",
            role="admin",
            created_at=_NO_DATE,
            updated_at=_NO_DATE,
        )
        return answer(wire.UserAnswer(user=operator))
    if subject.provider != SERVICE_ACCOUNT:
        return answer(wire.UserAnswer(user=people.user(await _row(subject.id))))
    row = await service_accounts.one(room, subject.id)
    account = wire.User(
        id=str(row["id"]),
        email=subject.email,
        name=row["name"],
        provider=SERVICE_ACCOUNT,
        external_id="",
        role=row["role"],
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
    )
    return answer(wire.UserAnswer(user=account))


async def _row(user_id: UUID) -> Any:
    try:
        return await accounts.user(services().identity, user_id)
    except NotFoundError:  # removed a moment ago, on another server
        raise NotAuthenticatedError("not authenticated") from None


@route(
    blueprint,
    "POST",
    "/api/v1/me/password",
    Audited("user.password_change", "user"),
    described=Description(takes=wire.PasswordBody, status=204, fails=frozenset({429})),
)
async def change_password() -> Response:
    """Another password for the caller (2.8)."""
    user_id = _person("password change is only for local accounts")
    note(target=str(user_id))
    said = await people.body(wire.PasswordBody, PASSWORDS, "invalid JSON body")
    if not said.current_password or not said.new_password:
        raise InvalidError("current_password and new_password required")
    await sessions.change_password(services().identity, user_id, said.current_password, said.new_password)
    return nothing()


@route(blueprint, "GET", "/api/v1/account/preferences", described=Description(gives=wire.Preferences))
async def preferences() -> Response:
    """What the caller has saved for themselves (3.1)."""
    subject = people.caller()
    row = await accounts.preferences(services().identity, subject.user_id) if subject.user_id else None
    if row is None:
        return answer(wire.Preferences(preferences={}))
    return answer(wire.Preferences(preferences=row["preferences"], updated_at=utc(row["updated_at"])))


@route(
    blueprint,
    "PUT",
    "/api/v1/account/preferences",
    Audited("preferences.set", "user"),
    described=Description(takes=wire.PreferencesBody, gives=wire.Preferences),
)
async def save_preferences() -> Response:
    """Replaces it whole (3.2)."""
    user_id = _person("only people have preferences")
    note(target=str(user_id))
    said = await people.body(wire.PreferencesBody, PREFERENCES, "invalid body")
    document = said.preferences or {}
    hidden = document.get("hidden_projects", [])
    if not isinstance(hidden, list) or not all(isinstance(each, str) and params.parse_uuid(each) for each in hidden):
        raise InvalidError("invalid body: hidden_projects must be a list of project ids")
    moment = await accounts.save_preferences(services().identity, user_id, document)
    return answer(wire.Preferences(preferences=document, updated_at=utc(moment)))


@route(blueprint, "GET", "/api/v1/account/api-tokens", described=Description(asks=people.Paged, gives=wire.Tokens))
async def list_tokens() -> Response:
    """The caller's own tokens (3.3)."""
    rows = await api_tokens.listed(services().identity, _owner(), *people.page())
    return answer(wire.Tokens(tokens=[people.token(row) for row in rows]))


@route(
    blueprint,
    "POST",
    "/api/v1/account/api-tokens",
    Audited("api_token.create", "api_token"),
    described=Description(takes=wire.TokenBody, gives=wire.NewToken, status=201, stored=False, fails=frozenset({409})),
)
async def create_token() -> Response:
    """A new token; only this answer ever shows it."""
    owner = _owner()
    said = await people.body(wire.TokenBody)
    note(subject="user")
    return await new_token(owner, said)


@route(
    blueprint,
    "DELETE",
    "/api/v1/account/api-tokens/<token_id>",
    Audited("api_token.revoke", "api_token", "{token_id}"),
    described=Description(status=204),
)
async def revoke_token(token_id: str) -> Response:
    """Revokes one of the caller's tokens; again is fine."""
    user_id = _person("forbidden")
    found = params.uuid(token_id, "invalid token id")
    note(subject="user")
    await api_tokens.revoke(services().identity, Owner(user_id=user_id), found)
    return nothing()


async def new_token(owner: Owner, said: wire.TokenBody) -> Response:
    """Makes a token for an owner, as the answer that shows it."""
    if said.expires_at is not None and said.expires_at.tzinfo is None:
        raise InvalidError("invalid json: expires_at needs a time zone, for example Z")
    row, plaintext = await api_tokens.create(services().identity, owner, said.name or "", said.expires_at)
    note(target=str(row["id"]), name=row["name"])
    response = answer(wire.NewToken(token=people.token(row), plaintext=plaintext), 201)
    response.headers["Cache-Control"] = "no-store"
    return response


def _owner() -> Owner:
    return Owner(user_id=_person("service accounts manage tokens via /admin/service-accounts"))


def _person(otherwise: str) -> UUID:
    """The person who is calling. Raises ForbiddenError with this message for callers that are no people."""
    user_id = people.caller().user_id
    if user_id is None:
        raise ForbiddenError(otherwise)
    return user_id
