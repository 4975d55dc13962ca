"""`secret set`, `secret list`, `secret rm`: values go in, names come out (contract-cli 4.2)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import click

from gocdnext.cli import complete
from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.table import print_line
from gocdnext.cli.terminal import safe

if TYPE_CHECKING:
    from gocdnext.client.messages import Secret, SecretBackend

MAX_VALUE = 64 * 1024
_DESCRIPTION = "File that describes it;"


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
@click.option("--source", help="The store that has the value, such as vault or file; then say --path.")
@click.option("--path", help="Where that store has it.")
@click.option("--key", help="Which field of it.")
def set_(
    target: Target,
    name: str,
    slug: str | None,
    everywhere: bool,
    file: IO[str] | None,
    from_stdin: bool,
    source: str | None,
    path: str | None,
    key: str | None,
) -> None:
    """Keep a value under NAME, in place of what was there.

    The value comes from --from-file, from stdin, or is asked for; newlines at its end are taken off. With --source it stays
    in another store, and jobs get what is there when they start.
    """
    scope = _scope(slug, everywhere)
    if source is None and (path or key):
        raise click.UsageError("say with --source which store --path and --key are of")
    if source is not None and (file is not None or from_stdin):
        raise click.UsageError("a secret of another store takes no value")
    value = _value(name, file, from_stdin) if source is None else ""
    with target.client(f"setting {name}") as client:
        if source is None:
            answer = client.set_secret(scope, name, value)
        else:
            answer = client.refer_secret(scope, name, source, path or "", key or "")
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
    found: list[Secret] = []
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


@secret.group()
def backends() -> None:
    """The other stores that values may be in: look at them, set, try and forget one. SOURCE is vault."""


@backends.command("list")
@target_options
def list_backends(target: Target) -> None:
    """List every kind of store, in use or not."""
    with target.client("asking for the stores of secrets") as client:
        found = client.secret_backends()
    if target.as_json:
        print_json(found)
        return
    for one in found["backends"]:
        _print_backend(one)


@backends.command("set")
@target_options
@click.argument("source")
@click.option("--from-file", "file", type=click.File(), required=True, help=f"{_DESCRIPTION} - is stdin.")
def set_backend(target: Target, source: str, file: IO[str]) -> None:
    """Set a store, in place of what the server's environment says of it.

    The file is JSON: {"enabled": true, "value": {"addr": …}, "credentials": {…}, "preserve_credentials": false}
    """
    with target.client(f"setting {source}") as client:
        done = client.set_secret_backend(source, _document(file))
    print_json(done) if target.as_json else _print_backend(done)


@backends.command("test")
@target_options
@click.argument("source")
@click.option("--from-file", "file", type=click.File(), required=True, help=f"{_DESCRIPTION} - is stdin.")
def try_backend(target: Target, source: str, file: IO[str]) -> None:
    """Try a store as a file describes it; nothing is kept. Exit code 1 when it gives nothing."""
    with target.client(f"trying {source}") as client:
        done = client.test_secret_backend(source, _document(file))
    if target.as_json:
        print_json(done)
    else:
        click.echo(safe(f"{done['status']} {done.get('message', '')}".rstrip(), colours=False))
    if done["status"] != "ok":
        raise SystemExit(1)


@backends.command("rm")
@target_options
@click.argument("source")
def forget_backend(target: Target, source: str) -> None:
    """Forget what was set: what the server's environment says counts again."""
    with target.client(f"forgetting {source}") as client:
        done = client.delete_secret_backend(source)
    print_json(done) if target.as_json else _print_backend(done)


def _print_backend(one: SecretBackend) -> None:
    state = "enabled" if one["enabled"] else "off"
    print_line(
        one["source"], state, one["source_origin"], one["value"].get("addr") or one["value"].get("directory") or "-"
    )


def _document(file: IO[str]) -> dict[str, Any]:
    """The description of a store. Its text, which holds credentials, is in no message."""
    import orjson

    try:
        document = orjson.loads(file.read(MAX_VALUE + 1))
    except (orjson.JSONDecodeError, UnicodeDecodeError):
        document = None
    if not isinstance(document, dict):
        raise Failure("the file holds no JSON object")
    return document


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
