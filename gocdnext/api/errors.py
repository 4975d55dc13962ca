"""The one table from errors to answers (contract-runs 0.2). Every body is `{"error": …}`."""

from __future__ import annotations

import asyncpg
import structlog
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from gocdnext.api import wire
from gocdnext.api.respond import answer
from gocdnext.auth.identity import NotAuthenticatedError
from gocdnext.auth.lockout import TooManyTriesError
from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.errors import (
    ConflictError,
    DomainError,
    ForbiddenError,
    InvalidError,
    NoRoomError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    UnprocessableError,
    UpstreamError,
)
from gocdnext.pipeline.problems import Problem

_LOG = structlog.get_logger(__name__)

STATUS: dict[type[DomainError], int] = {
    InvalidError: 400,
    NotAuthenticatedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    TooLargeError: 413,
    UnprocessableError: 422,
    TooManyTriesError: 429,
    UpstreamError: 502,
    UnavailableError: 503,
    NoRoomError: 507,
}
RETRY_AFTER = "5"
"""Seconds that a client is asked to wait while the database is away."""

_TEXTS = {
    404: "404 page not found",
    405: "method not allowed",
    408: "the request body did not arrive in time",
    413: "the request body is too large",
    500: "internal error",
}


def register(app: QuartTrio) -> None:
    """Puts the table in force for every route, and for requests that no route answers."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(DomainError, _domain)
    app.register_error_handler(DatabaseUnavailableError, _database_away)
    app.register_error_handler(asyncpg.DataError, _data)
    app.register_error_handler(asyncpg.TransactionRollbackError, _in_each_others_way)
    app.register_error_handler(Exception, _unexpected)


async def _http(error: HTTPException) -> Response:
    status = error.code or 500
    response = answer(wire.Error(error=_TEXTS.get(status, error.description or error.name)), status)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


async def _domain(error: DomainError) -> Response:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        return await _unexpected(error)
    problems = error.details if isinstance(error.details, tuple) else ()
    told = [problem for problem in problems if isinstance(problem, Problem)]
    response = answer(wire.Error(error=str(error), errors=told), status)
    if status == 503:
        response.headers["Retry-After"] = RETRY_AFTER
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _database_away(error: DatabaseUnavailableError) -> Response:
    _LOG.warning("database unavailable", error=str(error))
    response = answer(wire.Error(error="the database is not available now, try again shortly"), 503)
    response.headers["Retry-After"] = RETRY_AFTER
    return response


async def _data(error: asyncpg.DataError) -> Response:
    """A value that PostgreSQL has no room for, past the checks: the caller's, not ours."""
    _LOG.warning("value refused by the database", error=str(error))
    return answer(wire.Error(error="a value in the request cannot be stored"), 400)


async def _in_each_others_way(error: asyncpg.TransactionRollbackError) -> Response:
    """Two changes waited for each other and PostgreSQL let the other one go first; nothing of this one is kept."""
    _LOG.warning("change refused by the database", error=str(error))
    response = answer(wire.Error(error="another change was in the way, try again"), 503)
    response.headers["Retry-After"] = RETRY_AFTER
    return response


async def _unexpected(error: Exception) -> Response:
    _LOG.error("request failed", exc_info=error)
    return answer(wire.Error(error="internal error"), 500)
