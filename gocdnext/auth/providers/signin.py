"""A sign-in by way of a provider: the browser is sent there, comes back with a code, and somebody is known (2.3, 2.4).

A state is good once, for minutes, for one provider, and in the browser that began. Who arrives is told apart by provider and
subject alone: an e-mail opens nobody's account.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import structlog
import trio

from gocdnext.auth import origin
from gocdnext.auth.identity import NotAuthenticatedError
from gocdnext.auth.providers import proof
from gocdnext.auth.providers.errors import REJECTED, RejectedError
from gocdnext.auth.providers.kinds import Provider, is_error_code
from gocdnext.auth.providers.profile import Profile, fold, is_allowed
from gocdnext.auth.providers.registry import Providers
from gocdnext.auth.providers.stored import sql
from gocdnext.auth.room import Room
from gocdnext.db.pool import Connection
from gocdnext.errors import ForbiddenError, InvalidError, UnavailableError, UpstreamError
from gocdnext.outbound.errors import OutboundError

_log = structlog.get_logger("signin")
LIFETIME = timedelta(minutes=10)
"""How long somebody may take at the provider."""
MOST = 10_000
"""Sign-ins under way; the oldest is forgotten when one more begins. Anybody can begin one."""
WAITING = 100
"""Callbacks that wait for their turn to speak with a provider."""
WITHIN = 25.0
"""Seconds for everything that a provider is asked when somebody comes back."""
LONGEST_CODE = 4096
STALE = "state expired or already used; retry login"
_COOKIE = "gocdnext_signin_"


class Begun(NamedTuple):
    """Where the browser goes, and the cookie that it must bring back. Each sign-in has one of its own: tabs are several."""

    url: str
    cookie: str
    value: str


class Arrived(NamedTuple):
    """Who came back, and where they wanted to go."""

    user_id: UUID
    redirect_to: str


class Returned(NamedTuple):
    """What a browser brings back from a provider."""

    code: str
    state: str
    iss: str | None
    error: str
    cookies: Mapping[str, str]


async def begin(room: Room, providers: Providers, name: str, target: str) -> Begun:
    """Begins a sign-in that ends at `target`, a path of this server, or at `/`. Raises NotFoundError, UnavailableError."""
    provider = await providers.get(name)
    made = proof.make()
    ends = room.clock() + LIFETIME

    async def work(conn: Connection) -> None:
        await conn.execute(sql.begin, made.state_hash, made.browser_hash, name, origin.local_target(target), ends)
        await conn.execute(sql.trim_states, MOST)

    await room.db.transaction(work)
    return Begun(provider.address(providers.redirect_uri(name), made), _cookie(made.state), made.browser)


async def finish(room: Room, providers: Providers, name: str, said: Returned) -> Arrived:
    """Ends a sign-in. Raises NotFoundError, InvalidError, NotAuthenticatedError, UpstreamError, ForbiddenError,
    UnavailableError, in the order of contract-admin 2.4."""
    provider = await providers.get(name)
    if not said.code or not said.state:
        raise InvalidError("missing code or state" + _told(said.error))
    if len(said.code) > LONGEST_CODE:
        raise InvalidError(f"the code is longer than {LONGEST_CODE} characters")
    made, target = await _taken(room, name, said)
    if not provider.is_from(said.iss):
        # Another provider's answer, sent here to have its code delivered to the wrong one (RFC 9207).
        raise NotAuthenticatedError("state provider mismatch")
    found = await _profile(providers, provider, said.code, made)
    if not is_allowed(found.email, [fold(each) for each in providers.settings.allowed_domains]):
        raise ForbiddenError("email domain not allowed")
    is_admin = fold(found.email) in {fold(each) for each in providers.settings.admin_emails}
    return Arrived(await _account(room, name, found, "admin" if is_admin else "maintainer"), target)


async def _taken(room: Room, name: str, said: Returned) -> tuple[proof.Proof, str]:
    """The sign-in that a browser comes back from, and its target. It is over with this, whatever comes of it."""
    made = proof.read(said.state, said.cookies.get(_cookie(said.state), ""))
    # Without the cookie it is not this browser's: it is taken all the same, so that nobody can finish it any more.
    taken = made or proof.read(said.state, "0" * 64)
    row = None if taken is None else await room.db.fetchrow(sql.take, taken.state_hash)
    if row is None or row["expires_at"] <= room.clock():
        raise NotAuthenticatedError(STALE)
    if row["provider"] != name:
        raise NotAuthenticatedError("state provider mismatch")
    if made is None or made.browser_hash != row["browser_hash"]:
        raise NotAuthenticatedError(STALE)
    return made, row["redirect_to"]


async def _profile(providers: Providers, provider: Provider, code: str, made: proof.Proof) -> Profile:
    """Whom the code stands for. What went wrong is in the log: it is of no use to the person, and of some to an attacker."""
    name = provider.settings.name
    if providers.limiter.statistics().tasks_waiting >= WAITING:
        raise UnavailableError("too many people sign in at the moment, try again shortly")
    why = f"it did not answer within {WITHIN:g} s"
    with trio.move_on_after(WITHIN):
        try:
            async with providers.limiter:
                return await provider.profile(code, providers.redirect_uri(name), made)
        except RejectedError as error:
            _log.warning("a sign-in was rejected", provider=name, why=error.reason)
            raise
        except OutboundError as error:
            why = str(error)
    _log.warning("a provider cannot be asked for a sign-in", provider=name, why=why)
    raise UpstreamError(REJECTED)


async def _account(room: Room, name: str, found: Profile, role: str) -> UUID:
    """The account of somebody, made or brought up to date. Raises ForbiddenError; then nothing has changed."""

    async def work(conn: Connection) -> UUID:
        row = await conn.fetchrow(
            sql.arrive,
            room.new_id(),
            name,
            found.subject,
            found.email,
            found.name,
            found.avatar_url,
            role,
            found.issuer,
            room.clock(),
        )
        assert row is not None
        if row["disabled_at"] is not None:
            raise ForbiddenError("this account is disabled")
        if row["issuer"] != found.issuer:
            raise ForbiddenError(
                "this account belongs to somebody whom another issuer vouched for: an admin can remove the account, or "
                "save the provider again with adopt_accounts when its people have only moved"
            )
        user_id: UUID = row["id"]
        return user_id

    return await room.change(work)


def _cookie(state: str) -> str:
    return _COOKIE + state[:16]


def _told(error: str) -> str:
    """What a provider says instead of a code, if it is one of OAuth's words: others could be anybody's text."""
    return f": the provider answered {error}" if is_error_code(error) else ""
