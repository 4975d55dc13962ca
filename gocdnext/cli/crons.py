"""`crons list`, `add`, `change`, `remove`: the schedules of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.environments import slug_option
from gocdnext.cli.table import print_line
from gocdnext.cli.terminal import moment
from gocdnext.client import Client

if TYPE_CHECKING:
    from gocdnext.client.messages import Cron

pipelines_option = click.option(
    "--pipeline", "pipelines", metavar="NAME", multiple=True, help="A pipeline to start; without, all of the project."
)


@click.group()
def crons() -> None:
    """Keep the schedules of a project, which start its pipelines at their times."""


@crons.command("list")
@target_options
@slug_option
def list_(target: Target, slug: str) -> None:
    """List schedules: what they say, and when they fired last and fire next."""
    with target.client("asking for schedules") as client:
        found = client.crons(slug)
    if target.as_json:
        print_json(found)
        return
    for one in found["crons"]:
        state = "on" if one["enabled"] else "off"
        times = moment(one.get("last_fired_at")), moment(one.get("next_at")) if one["enabled"] else "-"
        print_line(one["id"], one["name"], one["expression"], state, *times)
    if not found["crons"]:
        click.echo("(no schedules)")


@crons.command()
@target_options
@slug_option
@click.argument("name", metavar="NAME")
@click.argument("expression", metavar="EXPRESSION")
@pipelines_option
@click.option("--off", is_flag=True, help="Do not let it fire yet.")
def add(target: Target, slug: str, name: str, expression: str, pipelines: tuple[str, ...], off: bool) -> None:
    """Add a schedule: five fields as in crontab, or for example @daily or '@every 90m'; 'TZ=Europe/Berlin ' may precede."""
    with target.client("adding a schedule") as client:
        chosen = _ids(client, slug, pipelines)
        made = client.add_cron(
            slug, {"name": name, "expression": expression, "pipeline_ids": chosen, "enabled": not off}
        )
    if target.as_json:
        print_json(made)
        return
    click.echo(f"{name}: {made['id']}, next at {moment(made.get('next_at'))}")


@crons.command()
@target_options
@slug_option
@click.argument("name", metavar="NAME")
@click.option("--rename", metavar="NAME")
@click.option("--expression", metavar="EXPRESSION")
@pipelines_option
@click.option("--all", "every", is_flag=True, help="Start all pipelines of the project.")
@click.option("--on/--off", "enabled", default=None, help="Let it fire, or do not.")
def change(
    target: Target,
    slug: str,
    name: str,
    rename: str | None,
    expression: str | None,
    pipelines: tuple[str, ...],
    every: bool,
    enabled: bool | None,
) -> None:
    """Change a schedule; what is not said stays as it is."""
    with target.client("changing a schedule") as client:
        found = _named(client, slug, name)
        chosen = _ids(client, slug, pipelines) if pipelines else [] if every else found["pipeline_ids"]
        wanted: dict[str, object] = {
            "name": rename or name,
            "expression": expression or found["expression"],
            "pipeline_ids": chosen,
        }
        if enabled is not None:
            wanted["enabled"] = enabled
        client.change_cron(slug, found["id"], wanted)
    if target.as_json:
        print_json({"id": found["id"]})
        return
    click.echo(f"{rename or name}: changed")


@crons.command()
@target_options
@slug_option
@click.argument("name", metavar="NAME")
def remove(target: Target, slug: str, name: str) -> None:
    """Take a schedule away."""
    with target.client("removing a schedule") as client:
        found = _named(client, slug, name)
        client.remove_cron(slug, found["id"])
    if target.as_json:
        print_json({"id": found["id"]})
        return
    click.echo(f"{name}: removed")


def _named(client: Client, slug: str, name: str) -> Cron:
    for one in client.crons(slug)["crons"]:
        if one["name"] == name:
            return one
    raise click.UsageError(f"{slug} has no schedule {name!r}: `gocdnext crons list --slug {slug}` shows them")


def _ids(client: Client, slug: str, names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    known = {one["name"]: one["id"] for one in client.project(slug)["pipelines"]}
    for name in names:
        if name not in known:
            raise click.UsageError(f"{slug} has no pipeline {name!r}")
    return [known[name] for name in names]
