"""Who sends the request at hand, and whether they may: before each handler, from the one table of roles.

A bearer token is tried before the cookie; one that is good for nothing is as good as none (contract-admin 1.4). Public
routes look nothing up. The answer to a stranger is the same for every route, whether or not there is such a thing.
"""

from __future__ import annotations

from quart import Response, g, request

from gocdnext.api.context import services
from gocdnext.auth import bearer, origin, roles, tokens
from gocdnext.auth.identity import OPERATOR, NotAuthenticatedError, Subject
from gocdnext.errors import ForbiddenError

CROSS_ORIGIN = "forbidden: this request comes from another site"


async def authorise() -> None:
    """Sets `g.subject`. Raises NotAuthenticatedError, ForbiddenError, DatabaseUnavailableError."""
    here = services()
    rule = request.url_rule
    minimum = roles.minimum(request.method, rule.rule) if rule is not None else roles.Role.ADMIN
    g.subject = None
    g.stale_cookie = False
    if minimum is roles.Role.PUBLIC:
        return
    if not here.settings.auth_enabled:
        # Whoever reaches the port may do everything; a page of another site that a browser on this machine shows may not.
        if request.method not in origin.SAFE_METHODS:
            require_own_origin()
        return
    subject = await _bearer() or await _session()
    if subject is None:
        raise NotAuthenticatedError("not authenticated")
    g.subject = subject
    if not subject.may(minimum):
        raise ForbiddenError("forbidden")


async def _bearer() -> Subject | None:
    token = bearer.token_of(request.headers.get("Authorization"))
    if token is None:
        return None
    room = services().identity
    if bearer.is_operator(token, room.operator_token):
        return OPERATOR
    return await room.callers.by_token(token)


async def _session() -> Subject | None:
    cookie = request.cookies.get(tokens.COOKIE)
    if not cookie:
        return None
    subject = await services().identity.callers.by_cookie(cookie)
    if subject is None:
        g.stale_cookie = True
    elif request.method not in origin.SAFE_METHODS:
        require_own_origin()
    return subject


def require_own_origin() -> None:
    """Raises ForbiddenError for what the page of another site has made a browser send."""
    ours = origin.is_ours(
        fetch_site=request.headers.get("Sec-Fetch-Site"),
        origin=request.headers.get("Origin"),
        host=request.headers.get("Host", ""),
        public_base=services().settings.public_base,
    )
    if not ours:
        raise ForbiddenError(CROSS_ORIGIN)


def finish(response: Response) -> None:
    """Takes a cookie back that is good for nothing."""
    if g.get("stale_cookie", False):
        clear_cookie(response)


def set_cookie(response: Response, value: str, ends: object) -> None:
    """The session cookie (1.3): one header, no Domain, no Max-Age."""
    response.set_cookie(
        tokens.COOKIE,
        value,
        expires=ends,  # type: ignore[arg-type]
        path="/",
        httponly=True,
        samesite="Lax",
        secure=is_secure(),
    )


def clear_cookie(response: Response) -> None:
    """Makes the browser forget the session cookie."""
    response.set_cookie(
        tokens.COOKIE, "", expires=0, max_age=0, path="/", httponly=True, samesite="Lax", secure=is_secure()
    )


def is_secure() -> bool:
    """Whether browsers reach this server by https, so that cookies can be kept to that."""
    return services().settings.public_base.startswith("https://")
