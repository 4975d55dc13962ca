"""What the routes of accounts share: small bodies, lenient paging, rows as messages. Nothing here answers a request."""

from __future__ import annotations

from typing import Annotated, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Meta
from quart import g

from gocdnext.api import params, query
from gocdnext.api.respond import utc, utc_or_none
from gocdnext.api.wire import identity as wire
from gocdnext.auth.identity import NotAuthenticatedError, Subject
from gocdnext.errors import InvalidError

S = TypeVar("S", bound=msgspec.Struct)

SMALL = 4 * 1024
"""Bytes of a body that makes or changes an account."""
MOST = 500
"""Rows of a list for which a limit is given (contract-admin 0.2)."""


Limit = Annotated[int, Meta(ge=1, le=MOST, description=query.LIMIT, extra={"whole": query.Whole(lenient=True)})]
Offset = Annotated[
    int, Meta(ge=0, le=params.INT32, description=query.OFFSET, extra={"whole": query.Whole(lenient=True)})
]


class Paged(msgspec.Struct):
    """The part of a list that is asked for; what is no number counts as not said (contract-admin 0.2)."""

    limit: Limit | None = None
    offset: Offset = 0


async def body(kind: type[S], limit: int = SMALL, wording: str = "invalid json") -> S:
    """The JSON object of a required body of at most `limit` bytes; `null` is an empty one. Raises InvalidError.

    What is wrong with it is said without the values in it: some are passwords.
    """
    data = await params.body_within(limit)
    if data is None:
        raise InvalidError(f"read body: larger than {limit} bytes")
    try:
        return params.json_object(b"{}" if data.strip() == b"null" else data, kind)
    except InvalidError as error:
        raise InvalidError(str(error).replace("invalid json", wording, 1)) from None


def page() -> tuple[int | None, int]:
    """`limit` (1 to MOST; None = all) and `offset`; what is not one counts as not said (contract-admin 0.2)."""
    asked = query.asked(Paged)
    return asked.limit, asked.offset


def caller() -> Subject:
    """Who is calling. Raises NotAuthenticatedError while authentication is off: there is nobody then."""
    subject: Subject | None = g.subject
    if subject is None:
        raise NotAuthenticatedError("not authenticated")
    return subject


def caller_id() -> UUID | None:
    """The person who is calling; None for callers that are no people, and while authentication is off."""
    subject: Subject | None = g.subject
    return None if subject is None else subject.user_id


def user(row: asyncpg.Record) -> wire.User:
    """A row of `users`."""
    return wire.User(
        id=str(row["id"]),
        email=row["email"],
        name=row["name"],
        avatar_url=row["avatar_url"],
        provider=row["provider"],
        external_id=row["external_id"],
        role="maintainer" if row["role"] == "user" else row["role"],
        disabled_at=utc_or_none(row["disabled_at"]),
        last_login_at=utc_or_none(row["last_login_at"]),
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
    )


def token(row: asyncpg.Record) -> wire.Token:
    """A row of `api_tokens`."""
    return wire.Token(
        id=str(row["id"]),
        name=row["name"],
        prefix=row["prefix"],
        created_at=utc(row["created_at"]),
        expires_at=utc_or_none(row["expires_at"]),
        last_used_at=utc_or_none(row["last_used_at"]),
        revoked_at=utc_or_none(row["revoked_at"]),
    )
