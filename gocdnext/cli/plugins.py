"""`plugins`: what jobs can use on this server, and which inputs each takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gocdnext.cli import complete
from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.table import print_rows
from gocdnext.cli.terminal import safe

if TYPE_CHECKING:
    from gocdnext.client.messages import Plugin

"""`Plugin` of contract-runs 7.1."""


@click.command()
@target_options
@click.argument("name", required=False, shell_complete=complete.plugins)
def plugins(target: Target, name: str | None) -> None:
    """List the plugins of the server's catalogue, or show the inputs and examples of one."""
    with target.client("asking for the plugins") as client:
        document = client.plugins()
    if name is None:
        if target.as_json:
            print_json(document)
        else:
            show_list(document["plugins"])
        return
    plugin = find(document["plugins"], name)
    if target.as_json:
        print_json(plugin)
    else:
        for line in described(plugin):
            click.echo(safe(line, colours=False))


def find(plugins: list[Plugin], name: str) -> Plugin:
    """The plugin of that name. Ends the command when there is none."""
    for plugin in plugins:
        if plugin["name"] == name:
            return plugin
    close = difflib.get_close_matches(name, [plugin["name"] for plugin in plugins], 1)
    hint = f"did you mean {close[0]}?" if close else "gocdnext plugins lists them."
    raise Failure(f"the catalogue has no plugin {name!r}; {hint}")


def show_list(plugins: list[Plugin]) -> None:
    """A table on a terminal, tab-separated lines in a pipe: name, category, what it does."""
    rows = [(plugin["name"], plugin.get("category", ""), _first_line(plugin)) for plugin in plugins]
    print_rows(("name", "category", "description"), rows, folded={"description"})


def _first_line(plugin: Plugin) -> str:
    return " ".join(str(plugin.get("description", "")).split("\n\n")[0].split())


def described(plugin: Plugin) -> Iterator[str]:
    """A plugin for people: what it does, its inputs, its examples."""
    yield " ".join(filter(None, [plugin["name"], f"({plugin['category']})" if plugin.get("category") else ""]))
    yield from str(plugin.get("description", "")).splitlines()
    if plugin["inputs"]:
        yield ""
        yield "inputs (`with:`)"
    for entry in plugin["inputs"]:
        kind = (
            "required" if entry["required"] else f"default {entry['default']}" if entry.get("default") else "optional"
        )
        yield f"  {entry['name']} ({kind})"
        yield from (f"      {line}" for line in str(entry.get("description", "")).splitlines())
    for example in plugin.get("examples", []):
        yield ""
        yield "example" + (f": {example['name']}" if example.get("name") else "")
        yield from (f"  {line}" for line in str(example.get("description", "")).splitlines())
        yield from (f"    {line}" for line in example["yaml"].splitlines())
