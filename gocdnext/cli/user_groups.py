"""`groups`: groups of people whom gates ask for (contract-admin 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.table import print_rows
from gocdnext.cli.terminal import moment, safe
from gocdnext.cli.users import user_of

if TYPE_CHECKING:
    from gocdnext.client import Client

PATH = "/api/v1/admin/groups"
group_argument = click.argument("group", metavar="GROUP")
member_argument = click.argument("who", metavar="EMAIL|ID")


@click.group()
def groups() -> None:
    """Groups of people whom gates ask for."""


@groups.command("list")
@target_options
def list_groups(target: Target) -> None:
    """List groups by name."""
    with target.client() as client:
        found = client.call("GET", PATH)
    if target.as_json:
        print_json(found)
        return
    rows = [(one["name"], str(one["member_count"]), one["description"] or "-", one["id"]) for one in found["groups"]]
    print_rows(("group", "members", "description", "id"), rows, folded=("group", "description"))


@groups.command()
@target_options
@click.argument("name")
@click.option("--description", default="", help="What it is for.")
def create(target: Target, name: str, description: str) -> None:
    """Make a group, with nobody in it."""
    with target.client() as client:
        made = client.call("POST", PATH, {"name": name, "description": description})
    _done(target, made, f"group {made['name']} created")


@groups.command()
@target_options
@group_argument
@click.option("--name", help="Another name. Gates go on naming the old one.")
@click.option("--description", help="Another description.")
def change(target: Target, group: str, name: str | None, description: str | None) -> None:
    """Give a group another name or description."""
    with target.client() as client:
        found = _group(client, group)
        wanted = {
            "name": found["name"] if name is None else name,
            "description": found["description"] if description is None else description,
        }
        client.call("PUT", f"{PATH}/{found['id']}", wanted)
    _done(target, {"id": found["id"], **wanted}, f"group {wanted['name']} changed")


@groups.command()
@target_options
@group_argument
def delete(target: Target, group: str) -> None:
    """Remove a group; the people stay."""
    with target.client() as client:
        found = _group(client, group)
        client.call("DELETE", f"{PATH}/{found['id']}")
    _done(target, {"id": found["id"], "name": found["name"], "status": "deleted"}, f"group {found['name']} deleted")


@groups.command()
@target_options
@group_argument
def members(target: Target, group: str) -> None:
    """List who is in a group."""
    with target.client() as client:
        found = client.call("GET", f"{PATH}/{_group(client, group)['id']}/members")
    if target.as_json:
        print_json(found)
        return
    rows = [
        (one["email"], one["role"], moment(one["added_at"]), one["name"] or "-", one["user_id"])
        for one in found["members"]
    ]
    print_rows(("email", "role", "added", "name", "id"), rows, folded=("email", "name"))


@groups.command()
@target_options
@group_argument
@member_argument
def add(target: Target, group: str, who: str) -> None:
    """Put somebody into a group."""
    with target.client() as client:
        found, user = _group(client, group), user_of(client, who)
        client.call("POST", f"{PATH}/{found['id']}/members", {"user_id": user["id"]})
    document = {"group_id": found["id"], "user_id": user["id"], "status": "member"}
    _done(target, document, f"{user['email']} is in {found['name']}")


@groups.command()
@target_options
@group_argument
@member_argument
def remove(target: Target, group: str, who: str) -> None:
    """Take somebody out of a group."""
    with target.client() as client:
        found, user = _group(client, group), user_of(client, who)
        client.call("DELETE", f"{PATH}/{found['id']}/members/{user['id']}")
    document = {"group_id": found["id"], "user_id": user["id"], "status": "removed"}
    _done(target, document, f"{user['email']} is not in {found['name']}")


def _group(client: Client, wanted: str) -> dict[str, Any]:
    """The group of that name or id."""
    for one in client.call("GET", PATH)["groups"]:
        if wanted in (one["name"], one["id"]):
            found: dict[str, Any] = one
            return found
    raise Failure(f"there is no group {wanted}. See: gocdnext groups list")


def _done(target: Target, document: dict[str, Any], told: str) -> None:
    if target.as_json:
        print_json(document)
    else:
        click.echo(safe(told, colours=False))
