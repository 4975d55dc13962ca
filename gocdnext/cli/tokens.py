"""`token` and `service-account`: API tokens made, listed and revoked, one's own and those of service accounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.table import print_rows
from gocdnext.cli.terminal import moment

if TYPE_CHECKING:
    from gocdnext.client import Client

ACCOUNT_COLUMNS = ("name", "role", "state", "created", "description", "id")
TOKEN_COLUMNS = ("prefix", "name", "state", "last used", "ends", "id")
OWN = "/api/v1/account/api-tokens"
ACCOUNTS = "/api/v1/admin/service-accounts"
ROLES = ("admin", "maintainer", "viewer")
days_option = click.option("--days", type=click.IntRange(1, 3650), help="Ends after this many days. Default: never.")


@click.group()
def token() -> None:
    """Your own API tokens."""


@token.command("create")
@target_options
@click.argument("name")
@days_option
def create_token(target: Target, name: str, days: int | None) -> None:
    """Make a token and print it: it is shown this once."""
    with target.client() as client:
        _show_new(target, client.call("POST", OWN, _wanted(name, days)))


@token.command("list")
@target_options
def list_tokens(target: Target) -> None:
    """List your tokens, newest first, also those that are over."""
    with target.client() as client:
        _show(target, client.call("GET", OWN))


@token.command("revoke")
@target_options
@click.argument("which", metavar="ID|PREFIX|NAME")
def revoke_token(target: Target, which: str) -> None:
    """Revoke a token. It is good for nothing from then on."""
    with target.client() as client:
        _revoke(target, client, OWN, which)


@click.group("service-account")
def service_account() -> None:
    """Service accounts and their tokens."""


@service_account.command("list")
@target_options
def list_accounts(target: Target) -> None:
    """List service accounts, newest first."""
    with target.client() as client:
        answer = client.call("GET", ACCOUNTS)
    if target.as_json:
        print_json(answer)
        return
    print_rows(
        ACCOUNT_COLUMNS,
        [
            (
                each["name"],
                each["role"],
                "disabled" if each.get("disabled_at") else "active",
                moment(each.get("created_at")),
                each["description"] or "-",
                each["id"],
            )
            for each in answer["service_accounts"]
        ],
        folded=ACCOUNT_COLUMNS,
    )


@service_account.command("create")
@target_options
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True)
@click.option("--description", default="", help="What it is for.")
def create_account(target: Target, name: str, role: str, description: str) -> None:
    """Make a service account. It has no token yet."""
    with target.client() as client:
        answer = client.call("POST", ACCOUNTS, {"name": name, "role": role, "description": description})
    if target.as_json:
        print_json(answer)
    else:
        print_rows(
            ("name", "role", "id"), [(answer["name"], answer["role"], answer["id"])], folded={"name", "role", "id"}
        )


@service_account.command("disable")
@target_options
@click.argument("name")
@click.option("--undo", is_flag=True, help="Let it in again.")
def disable_account(target: Target, name: str, undo: bool) -> None:
    """Shut a service account out with all its tokens."""
    with target.client() as client:
        account = _account(client, name)
        client.call("POST", f"{ACCOUNTS}/{account['id']}/disable", {"disabled": not undo})
    _done(target, account, "enabled" if undo else "disabled")


@service_account.command("delete")
@target_options
@click.argument("name")
def delete_account(target: Target, name: str) -> None:
    """Remove a service account with its tokens."""
    with target.client() as client:
        account = _account(client, name)
        client.call("DELETE", f"{ACCOUNTS}/{account['id']}")
    _done(target, account, "deleted")


@service_account.group("token")
def account_token() -> None:
    """Tokens of a service account."""


@account_token.command("create")
@target_options
@click.argument("account")
@click.argument("name")
@days_option
def create_account_token(target: Target, account: str, name: str, days: int | None) -> None:
    """Make a token for ACCOUNT and print it: it is shown this once."""
    with target.client() as client:
        _show_new(target, client.call("POST", _tokens_of(client, account), _wanted(name, days)))


@account_token.command("list")
@target_options
@click.argument("account")
def list_account_tokens(target: Target, account: str) -> None:
    """List the tokens of ACCOUNT, newest first."""
    with target.client() as client:
        _show(target, client.call("GET", _tokens_of(client, account)))


@account_token.command("revoke")
@target_options
@click.argument("account")
@click.argument("which", metavar="ID|PREFIX|NAME")
def revoke_account_token(target: Target, account: str, which: str) -> None:
    """Revoke a token of ACCOUNT."""
    with target.client() as client:
        _revoke(target, client, _tokens_of(client, account), which)


def _wanted(name: str, days: int | None) -> dict[str, object]:
    ends = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    return {"name": name, "expires_at": ends}


def _show_new(target: Target, answer: dict[str, Any]) -> None:
    """The token alone on stdout, so that a script can take it."""
    if target.as_json:
        print_json(answer)
        return
    click.echo(answer["plaintext"])
    click.echo("keep it now: it is not shown again", err=True)


def _show(target: Target, answer: dict[str, Any]) -> None:
    if target.as_json:
        print_json(answer)
        return
    print_rows(
        TOKEN_COLUMNS,
        [
            (
                each["prefix"],
                each["name"],
                _state(each),
                moment(each.get("last_used_at")),
                moment(each.get("expires_at")),
                each["id"],
            )
            for each in answer["tokens"]
        ],
        folded=TOKEN_COLUMNS,
    )


def _state(token: dict[str, Any]) -> str:
    if token.get("revoked_at"):
        return "revoked"
    ends = token.get("expires_at")
    return "expired" if ends and datetime.fromisoformat(ends) <= datetime.now(UTC) else "active"


def _revoke(target: Target, client: Client, path: str, which: str) -> None:
    """Revokes the one token with that id, prefix or name."""
    tokens = [each for each in client.call("GET", path)["tokens"] if not each.get("revoked_at")]
    found = [each for each in tokens if which in (each["id"], each["prefix"], each["name"])]
    if len(found) != 1:
        several = ", ".join(each["prefix"] for each in found)
        raise Failure(
            f"several tokens are called {which}: {several}. Give one of these."
            if found
            else f"there is no token {which}"
        )
    client.call("DELETE", f"{path}/{quote(found[0]['id'], safe='')}")
    if target.as_json:
        print_json({"id": found[0]["id"], "status": "revoked"})
    else:
        click.echo(f"revoked {found[0]['prefix']}")


def _tokens_of(client: Client, account: str) -> str:
    return f"{ACCOUNTS}/{_account(client, account)['id']}/tokens"


def _account(client: Client, name: str) -> dict[str, Any]:
    """The service account of that name or id."""
    for each in client.call("GET", ACCOUNTS)["service_accounts"]:
        if name in (each["name"], each["id"]):
            found: dict[str, Any] = each
            return found
    raise Failure(f"there is no service account {name}. See: gocdnext service-account list")


def _done(target: Target, account: dict[str, Any], status: str) -> None:
    if target.as_json:
        print_json({"id": account["id"], "name": account["name"], "status": status})
    else:
        click.echo(f"{status} {account['name']}")
