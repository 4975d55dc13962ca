"""`login`, `logout`, `whoami`: which token is used for a server, and whose it is."""

from __future__ import annotations

import os
import socket
from typing import Any

import click

from gocdnext.cli.common import Cannot, Target, failure_of, print_json, target_options, token_for
from gocdnext.cli.private import forget_token, keep_token, read_secret, secret_options
from gocdnext.cli.terminal import safe

PATIENCE = 15.0
"""Seconds for the check of a new token (contract-cli 4.4)."""


@click.command()
@target_options
@click.option("--email", metavar="EMAIL", help="Sign in with this e-mail and a password; a token is made and kept.")
@secret_options
def login(target: Target, email: str | None, from_file: str | None, from_stdin: bool) -> None:
    """Check a token and keep it for this server.

    Asks for an API token, or with --email for a password. Neither is ever an argument.
    """
    from gocdnext.client import ClientError

    secret = read_secret("Password" if email else "Token", from_file, from_stdin)
    try:
        token = _token_of_password(target.server, email, secret) if email else secret
        user = _owner(target.server, token)
    except ClientError as error:
        raise failure_of(error) from error
    path = keep_token(target.server, token)
    if target.as_json:
        print_json({"server": target.server, "user": user})
        return
    click.echo(f"logged in to {target.server} as {_name(user)}")
    if os.environ.get("GOCDNEXT_TOKEN"):
        click.echo(f"warning: GOCDNEXT_TOKEN is set and goes before the token in {path}", err=True)


def _token_of_password(server: str, email: str, password: str) -> str:
    """Signs in, makes a token and signs out again: the session was only for that."""
    from gocdnext.client import Client

    with Client(server, timeout=PATIENCE) as client:
        client.call("POST", "/auth/login/local", {"email": email, "password": password})
        made = client.call("POST", "/api/v1/account/api-tokens", {"name": f"gocdnext login on {socket.gethostname()}"})
        client.call("POST", "/auth/logout")
    return str(made["plaintext"])


def _owner(server: str, token: str) -> dict[str, Any]:
    from gocdnext.client import ApiError, Client

    try:
        with Client(server, token, timeout=PATIENCE) as client:
            user: dict[str, Any] = client.call("GET", "/api/v1/me")["user"]
    except ApiError as error:
        if error.status in (401, 403):
            raise Cannot(f"{server} rejects this token ({error.message}); nothing was kept") from error
        raise
    except UnicodeEncodeError:
        raise Cannot("a token has plain letters only; nothing was kept") from None
    return user


@click.command()
@target_options
def logout(target: Target) -> None:
    """Forget the token of this server on this machine. The token itself stays valid: see `token revoke`."""
    forgotten = forget_token(target.server)
    if target.as_json:
        print_json({"server": target.server, "forgotten": forgotten})
    elif forgotten:
        click.echo(f"logged out of {target.server}")
        click.echo("the token was removed from this machine only; `gocdnext token revoke` ends one for good")
    else:
        click.echo(f"there was no token for {target.server}")


@click.command()
@target_options
def whoami(target: Target) -> None:
    """Show who the server takes us for, and how far that goes."""
    with target.client() as client:
        answer = client.call("GET", "/api/v1/me")
    if target.as_json:
        print_json(answer)
        return
    user = answer["user"]
    source = "GOCDNEXT_TOKEN" if os.environ.get("GOCDNEXT_TOKEN", "").strip() else "login"
    token_from = f" (token from {source})" if token_for(target.server) else ""
    click.echo(f"{_name(user)}  {user['role']}  {safe(user['provider'], colours=False)}{token_from}")


def _name(user: dict[str, Any]) -> str:
    return safe(str(user.get("email") or user.get("name") or "somebody"), colours=False)
