"""What commands that work beside the server share: its settings, and how their errors end them. They speak with its
database, not with its API."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gocdnext.cli.common import Cannot, Failure

if TYPE_CHECKING:
    from gocdnext.config import Settings

T = TypeVar("T")
state_option = click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="The server's state directory."
)


def settings_of(state: Path | None) -> Settings:
    """The settings that a server in this state directory has. Raises UsageError."""
    from gocdnext.config import ConfigError, load

    try:
        return load(state_dir=state.absolute() if state else None)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def run(work: Callable[[], Awaitable[T]], *, sentence: Callable[[BaseException], str] = str) -> T:
    """Does the work; its errors end the command with a sentence, never with an address."""
    import trio

    from gocdnext import journal
    from gocdnext.db.errors import DRIVER_ERRORS, DatabaseStartError
    from gocdnext.db.pool import DatabaseUnavailableError
    from gocdnext.errors import DomainError

    # Standard output is for the answer, which may be JSON.
    journal.configure("error", sys.stderr.buffer)
    unreachable: tuple[type[Exception], ...] = (DatabaseStartError, DatabaseUnavailableError, *DRIVER_ERRORS)
    refused: list[BaseException] = []
    away: list[BaseException] = []
    done: list[T] = []
    try:
        done.append(trio.run(work))
    except* DomainError as group:
        refused.extend(group.exceptions)
    except* unreachable as group:
        away.extend(group.exceptions)
    except* KeyboardInterrupt:
        raise click.Abort from None
    if refused:
        raise Failure(sentence(_first(refused[0])))
    if away:
        raise Cannot(sentence(_first(away[0])))
    return done[0]


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
