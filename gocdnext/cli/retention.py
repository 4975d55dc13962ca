"""`retention show`, `run`: what sweepers have done; `retention log-archive`: whether logs of a project are archived."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.environments import slug_option
from gocdnext.cli.table import print_line
from gocdnext.cli.terminal import moment

if TYPE_CHECKING:
    from gocdnext.client.messages import Retention

WORDS = {"on": True, "off": False, "inherit": None}


@click.group()
def retention() -> None:
    """What is kept for how long, and what was removed."""


@retention.command()
@target_options
def show(target: Target) -> None:
    """Show what the sweepers of the server have done since it was started."""
    with target.client("asking for retention") as client:
        found = client.retention()
    _show(target, found)


@retention.command()
@target_options
def run(target: Target) -> None:
    """Let every sweeper make a pass now."""
    with target.client("sweeping") as client:
        found = client.sweep()
    _show(target, found)


@retention.command("log-archive")
@target_options
@slug_option
@click.argument("word", type=click.Choice(tuple(WORDS)), required=False)
def log_archive(target: Target, slug: str, word: str | None) -> None:
    """Show whether logs of a project are archived, or set it."""
    with target.client("asking for the log archive") as client:
        if word is not None:
            client.set_log_archive(slug, WORDS[word])
        found = client.log_archive(slug)
    if target.as_json:
        print_json(found)
        return
    said = next(name for name, value in WORDS.items() if value is found["enabled"])
    click.echo(f"{slug}: {said} (the server: {found['global_policy']})")


def _show(target: Target, found: Retention) -> None:
    if target.as_json:
        print_json(found)
        return
    for one in found["sweepers"]:
        done = ", ".join(f"{name} {count}" for name, count in one["totals"].items() if count) or "nothing"
        print_line(one["name"], moment(one.get("last_at")), f"{one['passes']} passes", done, one.get("last_error", ""))
