"""`/auth`: how people get in and out with a password, and how the first admin is made (contract-admin 2).

Other ways in register routes of their own and end in `with_session`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Meta
from quart import Blueprint, Response, request

from gocdnext.api import authorise, people, query
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note, unchanged
from gocdnext.api.wire import identity as wire
from gocdnext.auth import accounts, origin, sessions, tokens, words
from gocdnext.errors import ConflictError, InvalidError, NotFoundError

blueprint = Blueprint("signin", __name__)

LIMIT = 32 * 1024
WORDING = "invalid JSON body"
_COOKIE = {"Set-Cookie": "The session of the browser."}


class LoginQuery(msgspec.Struct):
    next: Annotated[str, Meta(description="Where to go then: a path of this server.")] = ""


@route(blueprint, "GET", "/auth/providers", described=Description(gives=wire.Providers))
async def providers() -> Response:
    """How one can sign in (2.2)."""
    here = services()
    local = await accounts.has_local(here.identity)
    others = await here.identity.providers.buttons() if here.identity.providers is not None else []
    waiting = here.settings.auth_enabled and not local and await _setup_waits()
    message = wire.Providers(
        enabled=here.settings.auth_enabled and (local or bool(others)),
        providers=[wire.Provider(name=name, display=display) for name, display in others],
        local_enabled=local,
        setup_required=waiting,
    )
    return answer(message)


@route(
    blueprint,
    "GET",
    "/auth/login/local",
    described=Description(asks=LoginQuery, status=302, headers={"Location": "The page."}, fails=frozenset({404})),
)
async def login_page() -> Response:
    """To the page where e-mail and password are asked for; `next` is where to go then (2.3)."""
    if not await accounts.has_local(services().identity):
        raise NotFoundError("unknown provider")
    target = origin.local_target(query.asked(LoginQuery).next)
    return nothing(302, headers={"Location": f"/login?next={quote(target, safe='/')}"})


@route(
    blueprint,
    "POST",
    "/auth/login/local",
    Audited("session.login", "user"),
    described=Description(takes=wire.LoginBody, gives=wire.UserAnswer, stored=False, headers=_COOKIE),
)
async def login() -> Response:
    """Signs in with e-mail and password (2.5)."""
    authorise.require_own_origin()
    said = await people.body(wire.LoginBody, LIMIT, WORDING)
    email = said.email or said.username or ""
    if not email.strip() or not said.password:
        raise InvalidError("email and password required")
    email = words.email(email)
    note(email=email)
    row = await sessions.sign_in(services().identity, email, said.password)
    return await signed_in(row["id"])


@route(
    blueprint,
    "POST",
    "/auth/logout",
    Audited("session.logout", "user"),
    described=Description(status=204, headers=_COOKIE),
)
async def logout() -> Response:
    """Ends the session of the cookie, if there is one (2.6)."""
    authorise.require_own_origin()
    cookie = request.cookies.get(tokens.COOKIE)
    user_id = await sessions.close_session(services().identity, cookie) if cookie else None
    if user_id is None:
        unchanged()
    else:
        note(target=str(user_id))
    response = nothing()
    authorise.clear_cookie(response)
    return response


@route(
    blueprint,
    "POST",
    "/auth/setup",
    Audited("user.setup", "user"),
    described=Description(
        takes=wire.SetupBody, gives=wire.UserAnswer, status=201, stored=False, headers=_COOKIE, fails=frozenset({409})
    ),
)
async def setup() -> Response:
    """Makes the first admin for whoever has the set-up code, and signs them in."""
    authorise.require_own_origin()
    here = services()
    if not here.settings.auth_enabled:
        raise ConflictError("authentication is off: set GOCDNEXT_AUTH_ENABLED=true first")
    said = await people.body(wire.SetupBody, LIMIT, WORDING)
    code = here.identity.setup_code
    if code is None:
        raise ConflictError("there is an admin already: sign in")
    row = await accounts.first_admin(
        here.identity, code, said.code or "", said.email or "", said.name or "", said.password or ""
    )
    return await signed_in(row["id"], 201)


async def signed_in(user_id: UUID, status: int = 200) -> Response:
    """A new session for an account, as the answer that gives its cookie to the browser."""
    return await with_session(user_id, lambda account: answer(wire.UserAnswer(user=people.user(account)), status))


async def with_session(user_id: UUID, answered: Callable[[asyncpg.Record], Response]) -> Response:
    """A new session for an account; its cookie goes with what is `answered` for the account."""
    agent, before = request.headers.get("User-Agent", ""), request.cookies.get(tokens.COOKIE)
    cookie, ends, account = await sessions.open_session(services().identity, user_id, agent, before)
    note(target=str(user_id), email=account["email"])
    response = answered(account)
    response.headers["Cache-Control"] = "no-store"
    authorise.set_cookie(response, cookie, ends)
    return response


async def _setup_waits() -> bool:
    room = services().identity
    return room.setup_code is not None and not await accounts.has_admin(room)
