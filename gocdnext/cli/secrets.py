"""`secret set`, `secret list`, `secret rm`: values go in, names come out (contract-cli 4.2)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, Any

import click

from gocdnext.cli import complete
from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.terminal import safe

MAX_VALUE = 64 * 1024


@click.group()
def secret() -> None:
    """Set, list and remove secrets of a project, or global ones."""


def scope_options(command: Callable[..., object]) -> Callable[..., object]:
    """Adds `--slug` and `--global`, of which one is needed."""
    command = click.option("--global", "everywhere", is_flag=True, help="A global secret, for all projects.")(command)
    return click.option("--slug", metavar="SLUG", shell_complete=complete.projects, help="The project.")(command)


@secret.command("set")
@target_options
@click.argument("name")
@scope_options
@click.option("--from-file", "file", type=click.File(), help="File with the value; - is stdin.")
@click.option("--from-stdin", is_flag=True, help="Read the value from stdin.")
def set_(target: Target, name: str, slug: str | None, everywhere: bool, file: IO[str] | None, from_stdin: bool) -> None:
    """Keep a value under NAME, in place of what was there.

    The value comes from --from-file, from stdin, or is asked for; newlines at its end are taken off.
    """
    scope = _scope(slug, everywhere)
    value = _value(name, file, from_stdin)
    with target.client(f"setting {name}") as client:
        answer = client.set_secret(scope, name, value)
    if target.as_json:
        print_json(answer)
    else:
        click.echo(f"secret {'created' if answer.get('created') else 'updated'} {name}")


@secret.command("list")
@target_options
@scope_options
def list_(target: Target, slug: str | None, everywhere: bool) -> None:
    """List names, never values. Global secrets that a project inherits are marked."""
    scope = _scope(slug, everywhere)
    found: list[dict[str, Any]] = []
    with target.client("asking for secrets") as client:
        page = client.secrets(scope)
        found += page["secrets"]
        while len(found) < page["total"] and page["secrets"]:
            page = client.secrets(scope, len(found))
            found += page["secrets"]
    inherited = page.get("inherited", [])
    if target.as_json:
        print_json({"secrets": found, "inherited": inherited})
        return
    for entry in found:
        click.echo(f"{safe(entry['name'], colours=False)}\t{entry['updated_at']}")
    for entry in inherited:
        click.echo(f"{safe(entry['name'], colours=False)}\t{entry['updated_at']}\tglobal")
    if not found and not inherited:
        click.echo("(no secrets)")


@secret.command()
@target_options
@click.argument("name")
@scope_options
def rm(target: Target, name: str, slug: str | None, everywhere: bool) -> None:
    """Remove a secret. Jobs that ask for it fail from then on."""
    scope = _scope(slug, everywhere)
    with target.client(f"removing {name}") as client:
        client.delete_secret(scope, name)
    if target.as_json:
        print_json({"name": name, "removed": True})
    else:
        click.echo(f"secret removed {name}")


def _scope(slug: str | None, everywhere: bool) -> str | None:
    if bool(slug) == everywhere:
        raise click.UsageError("say whose secret it is: --slug PROJECT, or --global")
    return slug


def _value(name: str, file: IO[str] | None, from_stdin: bool) -> str:
    """The value, from where it is never seen by others: no option takes it."""
    if file is None and not from_stdin and sys.stdin.isatty():
        asked: str = click.prompt(name, hide_input=True, err=True)
        return asked
    source = file if file is not None else sys.stdin
    try:
        value = source.read(MAX_VALUE + 1)
    except UnicodeDecodeError:
        raise Failure("the value is not UTF-8 text: encode it, for example with base64") from None
    if len(value) > MAX_VALUE:
        raise Failure(f"the value is larger than {MAX_VALUE // 1024} KiB, which no server takes")
    return value.rstrip("\n")
