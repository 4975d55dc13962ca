"""`/auth/login/{provider}` and `/auth/callback/{provider}`: to a provider and back (contract-admin 2.3, 2.4)."""

from __future__ import annotations

from quart import Blueprint, Response, request

from gocdnext.api import authorise, signin
from gocdnext.api.context import services
from gocdnext.api.respond import nothing
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire import auth_providers as wire
from gocdnext.auth.providers import signin as flow
from gocdnext.auth.providers.registry import Providers
from gocdnext.errors import NotFoundError

blueprint = Blueprint("signin_providers", __name__)
CALLBACK = "/auth/callback"


@route(
    blueprint,
    "GET",
    "/auth/login/<provider>",
    described=Description(asks=wire.SignInQuery, status=302, fails=frozenset((404, 429, 502))),
)
async def login_by_provider(provider: str) -> Response:
    """To the provider, with a cookie that must come back with the browser."""
    begun = await flow.begin(services().identity, _providers(), provider, request.args.get("next", ""))
    response = _to(begun.url)
    # Lax, since the browser comes back from another site; for the callback only, and not longer than the state is good.
    response.set_cookie(
        begun.cookie,
        begun.value,
        max_age=int(flow.LIFETIME.total_seconds()),
        path=CALLBACK,
        httponly=True,
        samesite="Lax",
        secure=authorise.is_secure(),
    )
    return response


@route(
    blueprint,
    "GET",
    f"{CALLBACK}/<provider>",
    Audited("session.login", "user"),
    described=Description(asks=wire.CallbackQuery, status=302, fails=frozenset((401, 403, 404, 429, 502))),
)
async def callback(provider: str) -> Response:
    """Back from the provider: a session for whom it vouches."""
    said = flow.Returned(
        code=request.args.get("code", ""),
        state=request.args.get("state", ""),
        iss=request.args.get("iss"),
        error=request.args.get("error", ""),
        cookies=request.cookies,
    )
    note(provider=provider[:64])
    arrived = await flow.finish(services().identity, _providers(), provider, said)
    return await signin.with_session(arrived.user_id, lambda _: _to(arrived.redirect_to))


def _to(url: str) -> Response:
    return nothing(302, {"Location": url, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"})


def _providers() -> Providers:
    found = services().identity.providers
    if found is None:
        raise NotFoundError("unknown provider")
    return found
