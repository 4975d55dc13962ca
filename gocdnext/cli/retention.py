"""`retention`: what sweepers have done and will do, doing it now; whether logs of a project are archived."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.environments import slug_option
from gocdnext.cli.table import print_line, print_rows
from gocdnext.cli.terminal import moment

if TYPE_CHECKING:
    from gocdnext.client.messages import PlanGroup, Retention

COLUMNS = ("what", "kind", "count", "bytes", "oldest", "why")
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


@retention.command()
@target_options
@click.option("--keep-last", type=click.IntRange(0), metavar="RUNS", help="Try another GOCDNEXT_ARTIFACTS_KEEP_LAST.")
@click.option("--keep-newest", type=click.IntRange(0), metavar="RUNS", help="Another GOCDNEXT_ARTIFACTS_KEEP_NEWEST.")
@click.option("--project-quota-bytes", type=click.IntRange(0), metavar="BYTES", help="Another quota of each project.")
@click.option("--global-quota-bytes", type=click.IntRange(0), metavar="BYTES", help="Another quota of all together.")
def plan(target: Target, **limits: int | None) -> None:
    """Show what the sweepers would remove now, and why, before they do; under the server's limits, or under others."""
    with target.client("asking for the plan") as client:
        found = client.retention_plan(**{name: value for name, value in limits.items() if value is not None})
    if target.as_json:
        print_json(found)
        return
    print_rows(COLUMNS, [_row("goes", group) for group in found["goes"]] + [_row("stays", g) for g in found["stays"]])
    if not found["complete"]:
        click.echo("there is more than this: not everything was looked at", err=True)
    if not found["goes"]:
        click.echo("nothing goes", err=True)


def _row(what: str, group: PlanGroup) -> tuple[str, ...]:
    count, size = str(group["count"]), str(group["bytes"])
    return what, group["kind"], count, size, moment(group.get("oldest")), group["why"]


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
