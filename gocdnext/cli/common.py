"""What the commands share: the connection and its settings, failures with exit codes, JSON and progress output."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gocdnext.client import Client

DEFAULT_SERVER = "http://localhost:8153"
NO_PROJECT = "project not found"
"""What the server says of a slug that it does not know (contract-runs 2.2)."""
FAILED = 1
CANNOT = 3


class Failure(click.ClickException):
    """An ending with a message and exit code 1: the run or check failed."""

    exit_code = FAILED

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.message}", err=True)


class Cannot(Failure):
    """An ending with exit code 3: the server cannot be reached, or does not allow it."""

    exit_code = CANNOT


@dataclass(frozen=True, slots=True)
class Target:
    """Which server to talk to, and how to answer: `as_json` means exactly the API's JSON on stdout."""

    server: str
    as_json: bool

    def connect(self) -> Client:
        """A client for the server, with the token that belongs to it."""
        from gocdnext.client import Client

        return Client(self.server, token_for(self.server))

    @contextmanager
    def client(self, doing: str = "") -> Iterator[Client]:
        """A client whose errors end the command with the right exit code. `doing` is shown as progress."""
        from gocdnext.client import ClientError

        try:
            with self.connect() as client, self.progress(doing):
                yield client
        except ClientError as error:
            raise failure_of(error) from error

    @contextmanager
    def progress(self, doing: str) -> Iterator[None]:
        """A spinner on a terminal; nothing in a pipe or under --json."""
        if not doing or self.as_json or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(doing):
            yield


def failure_of(error: Exception) -> Failure:
    """The ending for an error of the client."""
    from gocdnext.client import ApiError

    if not isinstance(error, ApiError):
        return Cannot(f"{error}\nIs the server running? Start one with: gocdnext serve")
    if error.status == 401:
        return Cannot(f"{error}\nSign in with `gocdnext login`, or set GOCDNEXT_TOKEN to a valid token of this server.")
    if error.status == 404 and error.message == NO_PROJECT:
        return Failure(f"{error}\nSee: gocdnext projects list")
    return Cannot(str(error)) if error.status == 403 else Failure(str(error))


def target_options(command: Callable[..., object]) -> Callable[..., object]:
    """Adds `--server` and `--json`; the command gets them as its first argument, a Target."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON: the API's own, on stdout.")
    @click.option("--server", metavar="URL", help=f"Address of the server. Default: {DEFAULT_SERVER}")
    @functools.wraps(command)
    def with_target(*args: object, server: str | None, as_json: bool, **options: object) -> object:
        return command(Target(server_url(server), as_json), *args, **options)

    return with_target


def server_url(said: str | None) -> str:
    """--server, then GOCDNEXT_SERVER_URL, then the local one; without trailing slashes (contract-cli 4.1)."""
    url = (said or os.environ.get("GOCDNEXT_SERVER_URL") or DEFAULT_SERVER).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"the server address {url!r} must start with http:// or https://")
    return url


def config_file() -> Path:
    """Where tokens are kept (contract-cli 4.1)."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "gocdnext" / "config.json"


def token_for(server: str) -> str | None:
    """GOCDNEXT_TOKEN, then the entry of the configuration file for exactly this server, then none."""
    if token := os.environ.get("GOCDNEXT_TOKEN", "").strip():
        return token
    path = config_file()
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))["servers"].get(server, {})
        token = entry.get("token", "")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        click.echo(f"warning: cannot use {path} ({error}); going on without a token", err=True)
        return None
    return token if isinstance(token, str) and token else None


def print_json(document: object) -> None:
    """One JSON document (or one line of a stream) on stdout."""
    import orjson

    sys.stdout.write(orjson.dumps(document).decode() + "\n")
    sys.stdout.flush()
