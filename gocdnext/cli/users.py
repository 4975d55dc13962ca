"""`users`: accounts of people, for admins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.private import read_secret, secret_options
from gocdnext.cli.table import print_rows
from gocdnext.cli.terminal import moment, safe

if TYPE_CHECKING:
    from gocdnext.client import Client

USERS = "/api/v1/admin/users"
COLUMNS = ("email", "role", "state", "provider", "last login", "name", "id")
ROLES = ("admin", "maintainer", "viewer")
user_argument = click.argument("who", metavar="EMAIL|ID")


@click.group()
def users() -> None:
    """Accounts of people."""


@users.command("list")
@target_options
def list_users(target: Target) -> None:
    """List accounts by e-mail."""
    with target.client() as client:
        answer = client.call("GET", USERS)
    if target.as_json:
        print_json(answer)
        return
    print_rows(
        COLUMNS,
        [
            (
                each["email"],
                each["role"],
                "disabled" if each.get("disabled_at") else "active",
                each["provider"],
                moment(each.get("last_login_at")),
                each["name"] or "-",
                each["id"],
            )
            for each in answer["users"]
        ],
        folded=COLUMNS,
    )


@users.command()
@target_options
@click.argument("email")
@click.option("--name", default="", help="Name shown to people.")
@click.option("--role", type=click.Choice(ROLES), default="maintainer", show_default=True)
@secret_options
def create(target: Target, email: str, name: str, role: str, from_file: str | None, from_stdin: bool) -> None:
    """Make an account with a password, which is asked for."""
    password = read_secret("Password", from_file, from_stdin, twice=True)
    with target.client() as client:
        answer = client.call("POST", USERS, {"email": email, "name": name, "role": role, "password": password})
    _done(target, answer, f"created as {answer['role']}", answer)


@users.command()
@target_options
@user_argument
@click.argument("role", type=click.Choice(ROLES))
def role(target: Target, who: str, role: str) -> None:
    """Give an account another role. Its sessions end."""
    with target.client() as client:
        answer = client.call("PUT", f"{USERS}/{user_of(client, who)['id']}/role", {"role": role})
    _done(target, answer, f"is {answer['role']} now", answer)


@users.command()
@target_options
@user_argument
@click.option("--undo", is_flag=True, help="Let the account in again.")
def disable(target: Target, who: str, undo: bool) -> None:
    """Shut an account out with its sessions and tokens."""
    with target.client() as client:
        user = user_of(client, who)
        client.call("POST", f"{USERS}/{user['id']}/disable", {"disabled": not undo})
    status = "enabled" if undo else "disabled"
    _done(target, user, status, {"id": user["id"], "email": user["email"], "status": status})


@users.command()
@target_options
@user_argument
def delete(target: Target, who: str) -> None:
    """Remove an account with all that belongs to it."""
    with target.client() as client:
        user = user_of(client, who)
        client.call("DELETE", f"{USERS}/{user['id']}")
    _done(target, user, "deleted", {"id": user["id"], "email": user["email"], "status": "deleted"})


def user_of(client: Client, who: str) -> dict[str, Any]:
    """The account of that e-mail or id."""
    wanted = who.strip().lower()
    found = [each for each in client.call("GET", USERS)["users"] if wanted in (each["email"].lower(), each["id"])]
    if len(found) > 1:
        several = ", ".join(f"{each['id']} ({each['provider']})" for each in found)
        raise Failure(f"several accounts have this e-mail: {several}. Give the id of one.")
    if not found:
        raise Failure(f"there is no account {who}. See: gocdnext users list")
    user: dict[str, Any] = found[0]
    return user


def _done(target: Target, user: dict[str, Any], what: str, document: dict[str, Any]) -> None:
    if target.as_json:
        print_json(document)
    else:
        click.echo(f"{safe(user['email'], colours=False)} {what}")
