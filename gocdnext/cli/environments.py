"""`environments list`, `show`, `freeze`, `unfreeze`, `rollback`: what is deployed where."""

from __future__ import annotations

import click

from gocdnext.cli import complete
from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.table import print_line
from gocdnext.cli.terminal import moment, safe

slug_option = click.option(
    "--slug", metavar="SLUG", required=True, shell_complete=complete.projects, help="The project."
)
name_argument = click.argument("name", metavar="ENVIRONMENT")


@click.group()
def environments() -> None:
    """Look at the environments of a project, freeze them, deploy again what was there before."""


@environments.command("list")
@target_options
@slug_option
def list_(target: Target, slug: str) -> None:
    """List environments: what is there, since when, and why one is frozen."""
    with target.client("asking for environments") as client:
        found = client.environments(slug)
    if target.as_json:
        print_json(found)
        return
    for one in found["environments"]:
        current, freeze = one.get("current", {}), one.get("freeze")
        held = f"frozen by {freeze['frozen_by']}: {freeze['reason']}" if freeze else ""
        print_line(one["name"], current.get("version", "-"), moment(current.get("since")), held)
    if not found["environments"]:
        click.echo("(nothing was deployed yet)")


@environments.command()
@target_options
@slug_option
@name_argument
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
def show(target: Target, slug: str, name: str, limit: int) -> None:
    """Show the deployments to an environment, newest first."""
    with target.client("asking for deployments") as client:
        found = client.deployments(slug, name, limit)
    if target.as_json:
        print_json(found)
        return
    for one in found["deployments"]:
        run = f"{one['pipeline_name']}#{one['counter']}" if one.get("pipeline_name") else "-"
        how = "rollback" if one["is_rollback"] else ""
        print_line(
            one["id"], one["version"], one["status"], moment(one["created_at"]), run, one.get("deployed_by", ""), how
        )


@environments.command()
@target_options
@slug_option
@name_argument
@click.option("--reason", required=True, help="Why; shown to whoever is held by it.")
def freeze(target: Target, slug: str, name: str, reason: str) -> None:
    """Freeze an environment: nothing is deployed into it, and gates before it stay closed."""
    with target.client(f"freezing {name}") as client:
        client.freeze(slug, name, reason)
    _done(target, name, "frozen")


@environments.command()
@target_options
@slug_option
@name_argument
def unfreeze(target: Target, slug: str, name: str) -> None:
    """Let an environment go; what waited for it goes on."""
    with target.client(f"unfreezing {name}") as client:
        client.unfreeze(slug, name)
    _done(target, name, "unfrozen")


@environments.command()
@target_options
@slug_option
@name_argument
@click.argument("deployment", required=False)
def rollback(target: Target, slug: str, name: str, deployment: str | None) -> None:
    """Deploy again what was deployed before.

    DEPLOYMENT is an id that `show` lists; left out, the newest that succeeded is deployed again.
    """
    with target.client(f"deploying to {name} again") as client:
        made = client.rollback(slug, name, deployment)
    if target.as_json:
        print_json(made)
    else:
        what = "rolling back" if made["is_rollback"] else "deploying again"
        click.echo(f"{what} {safe(name, colours=False)}: run {made['run_id']}, attempt {made['attempt']}")


def _done(target: Target, name: str, word: str) -> None:
    if target.as_json:
        print_json({"name": name, word: True})
    else:
        click.echo(f"{word} {safe(name, colours=False)}")
