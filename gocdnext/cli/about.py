"""`version`, `config`, `completion`: what this program is, what it can be told, and help for the shell."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import click

from gocdnext import __version__
from gocdnext.cli.common import Target, print_json, target_options

if TYPE_CHECKING:
    from gocdnext.client.messages import Version

SHELLS = ("bash", "zsh", "fish")


@click.command()
@target_options
def version(target: Target) -> None:
    """Show the version of this program, and of the server when it can be reached."""
    from gocdnext.client import ClientError

    server: Version | None = None
    try:
        with target.connect() as client, target.progress("asking the server"):
            server = client.version()
    except ClientError as error:
        reason = str(error)
    if target.as_json:
        print_json({"version": __version__, "python": platform.python_version(), "server": server})
        return
    click.echo(f"gocdnext {__version__} (Python {platform.python_version()}, {platform.machine()})")
    click.echo(
        f"server   {server.get('version', '?')} at {target.server}" if server is not None else f"server   {reason}"
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def config(as_json: bool) -> None:
    """Show every setting of server and agent with its default, and what is set here.

    Values of secrets are not shown.
    """
    from gocdnext.agent.config import TABLE
    from gocdnext.config import VARIABLES

    rows = [setting("server", each.name, each.kind, each.default, each.meaning) for each in VARIABLES]
    rows += [setting("agent", each.name, each.type, each.default, each.meaning) for each in TABLE]
    if as_json:
        print_json(rows)
        return
    for shown in rows:
        default = f"default {shown['default']}" if shown["default"] else "no default"
        mark = f"  = {shown['value']}" if shown["value"] else ""
        click.echo(f"{click.style(shown['name'], bold=True)} ({shown['of']}; {shown['kind']}; {default}){mark}")
        click.echo(click.wrap_text(shown["meaning"], 96, initial_indent="    ", subsequent_indent="    "))


def setting(of: str, name: str, kind: str, default: str, meaning: str) -> dict[str, str]:
    """One row. What may hold a credential is only said to be set."""
    value = os.environ.get(name, "")
    private = kind in ("secret", "url") or name.endswith("_TOKEN")
    shown = "(set)" if value and private else value
    return {"of": of, "name": name, "kind": kind, "default": default, "value": shown, "meaning": meaning}


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete commands, projects, pipelines and runs.

    For bash: add to ~/.bashrc the line  eval "$(gocdnext completion bash)"
    """
    from click.shell_completion import get_completion_class

    from gocdnext.cli.program import program

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(found(program, {}, "gocdnext", "_GOCDNEXT_COMPLETE").source())
