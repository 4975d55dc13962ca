"""`auth-providers`: by whom people may sign in, for admins (contract-admin 7.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.private import read_secret, secret_options
from gocdnext.cli.table import print_rows
from gocdnext.cli.terminal import safe

if TYPE_CHECKING:
    from gocdnext.client import Client

PATH = "/api/v1/admin/auth/providers"
COLUMNS = ("name", "kind", "state", "address", "client", "display")


@click.group("auth-providers")
def auth_providers() -> None:
    """By whom people may sign in: GitHub, or OpenID providers. Asks the server, as an admin."""


@auth_providers.command("list")
@target_options
def list_providers(target: Target) -> None:
    """List providers, and what is wrong with any."""
    with target.client("asking for providers") as client:
        answer = client.call("GET", PATH)
    if target.as_json:
        print_json(answer)
        return
    problems = answer.get("problems", {})
    rows = [
        (
            each["name"],
            each["kind"],
            _state(each["enabled"], each["name"] in problems),
            each.get("issuer") or each.get("github_api_base") or "-",
            each["client_id"],
            each["display_name"] or "-",
        )
        for each in answer["providers"]
    ]
    rows += [(name, "-", _state(True, name in problems), "environment", "-", "-") for name in answer["env_only"]]
    print_rows(COLUMNS, rows, folded=COLUMNS)
    _tell(problems)
    if not answer["enabled"]:
        click.echo("authentication is off: nobody signs in by any of them", err=True)


@auth_providers.command("set")
@target_options
@click.argument("name")
@click.option("--kind", type=click.Choice(("github", "oidc")), help="Needed for a new one.")
@click.option("--client-id", metavar="ID", help="Needed for a new one.")
@click.option("--issuer", metavar="URL", help="Of an OpenID provider, to the letter as it names itself.")
@click.option("--github-api-base", metavar="URL", help="Of a GitHub Enterprise Server.")
@click.option("--display-name", metavar="TEXT", help="What the button on the login page says.")
@click.option("--enable/--disable", "enabled", default=None, help="Whether people may sign in by it.")
@click.option("--new-secret", is_flag=True, help="Ask for the client's secret although there is one.")
@click.option(
    "--adopt-accounts",
    is_flag=True,
    help="Its people keep their accounts although another issuer vouches for them now.",
)
@secret_options
def set_provider(
    target: Target,
    name: str,
    new_secret: bool,
    adopt_accounts: bool,
    from_file: str | None,
    from_stdin: bool,
    **said: Any,
) -> None:
    """Make the provider NAME, or change what is said of it.

    The client's secret is read from --from-file, from stdin with --from-stdin, or asked for; a provider that is there keeps
    its own. NAME is part of the address to register at the provider: <public base>/auth/callback/NAME
    """
    with target.client() as client:
        before = _find(client, name)
        body = {**(before or {}), **{field: value for field, value in said.items() if value is not None}, "name": name}
        if not body.get("kind") or not body.get("client_id"):
            raise click.UsageError("a new provider needs --kind and --client-id")
        if new_secret or from_file or from_stdin or _asks_elsewhere(before, body):
            body["client_secret"] = read_secret("Client secret", from_file, from_stdin)
        body["adopt_accounts"] = adopt_accounts
        answer = client.call("POST", PATH, body)
    if target.as_json:
        print_json(answer)
        return
    click.echo(f"provider {'made' if before is None else 'changed'}: {safe(name, colours=False)}")
    if answer.get("reload_warning"):
        _tell({name: answer["reload_warning"]})


@auth_providers.command()
@target_options
@click.argument("name")
def delete(target: Target, name: str) -> None:
    """Remove the provider NAME. The accounts of its people stay, and nobody can sign in to them."""
    with target.client() as client:
        found = _find(client, name)
        if found is None:
            raise Failure(f"there is no provider {name} in the database. See: gocdnext auth-providers list")
        client.call("DELETE", f"{PATH}/{found['id']}")
    if target.as_json:
        print_json({"id": found["id"], "name": name, "status": "deleted"})
    else:
        click.echo(f"provider deleted: {safe(name, colours=False)}")


@auth_providers.command("reload")
@target_options
def reload_providers(target: Target) -> None:
    """Let the server ask every provider about itself again."""
    with target.client("asking the providers") as client:
        answer = client.call("POST", f"{PATH}/reload")
    if target.as_json:
        print_json(answer)
        return
    for name in answer["active"]:
        click.echo(safe(name, colours=False))
    _tell(answer.get("problems", {}))


def _find(client: Client, name: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = next(
        (each for each in client.call("GET", PATH)["providers"] if each["name"] == name), None
    )
    return found


def _asks_elsewhere(before: dict[str, Any] | None, body: dict[str, Any]) -> bool:
    """Whether the secret goes to another place than before: then the server wants it said again."""
    where = ("kind", "issuer", "github_api_base")
    return before is None or any(body.get(name, "") != before.get(name, "") for name in where)


def _state(enabled: bool, has_problem: bool) -> str:
    return "off" if not enabled else "failing" if has_problem else "on"


def _tell(problems: dict[str, str]) -> None:
    for name, why in problems.items():
        click.echo(safe(f"warning: {name} cannot be used: {why}", colours=False), err=True)
