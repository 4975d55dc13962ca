"""`projects sync`, `projects pr-head-config`: configuration from a project's repository."""

from __future__ import annotations

import click

from gocdnext.cli import complete
from gocdnext.cli.common import FAILED, Target, print_json, target_options
from gocdnext.cli.projects import report
from gocdnext.cli.terminal import safe

project_argument = click.argument("project", metavar="PROJECT", shell_complete=complete.projects)


@click.command()
@target_options
@project_argument
def sync(target: Target, project: str) -> None:
    """Read the configuration of PROJECT from its repository and apply it, then look for commits that no webhook told of.

    A file that is broken changes nothing. Pipelines whose file is gone are removed. Exit code 1 when the configuration or
    one of the repositories cannot be read.
    """
    with target.client(f"syncing {project}") as client:
        answer = client.sync(project)
    if target.as_json:
        print_json(answer)
    else:
        for line in report(answer):
            click.echo(safe(line, colours=False))
        if revision := answer.get("revision"):
            click.echo(f"  configuration of commit {safe(revision, colours=False)}")
        click.echo(f"  {answer['materials_polled']} git materials looked at, {len(answer['runs'])} runs started")
        for run in answer["runs"]:
            click.echo(f"  run {safe(run, colours=False)}")
    for warning in answer.get("warnings") or []:
        click.echo(f"warning: {safe(str(warning), colours=False)}", err=True)
    for error in answer.get("errors") or []:
        click.echo(f"error: {safe(str(error), colours=False)}", err=True)
    if answer.get("errors"):
        raise SystemExit(FAILED)


@click.command("pr-head-config")
@target_options
@project_argument
@click.argument("wanted", metavar="[on|off]", type=click.Choice(("on", "off")), required=False)
def pr_head_config(target: Target, project: str, wanted: str | None) -> None:
    """Say whether pull requests run with the configuration that they bring, or with that of the default branch.

    Only those from branches of the same repository do, never those from forks. Only administrators may change it: whoever
    can push a branch then decides what runs with the project's secrets.
    """
    with target.client(f"asking about the pull requests of {project}") as client:
        answer = (
            client.pr_head_config(project) if wanted is None else client.set_pr_head_config(project, wanted == "on")
        )
    if target.as_json:
        print_json(answer)
        return
    whose = "of the pull request's own commit" if answer["enabled"] else "of the default branch"
    click.echo(f"pull requests of {safe(project, colours=False)} run with the configuration {whose}")
