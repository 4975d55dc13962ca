"""`webhooks list`, `show`, `redeliver`: what providers sent, and why it did or did not start a run (contract-admin 7.7)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.terminal import moment, safe

if TYPE_CHECKING:
    from gocdnext.client.messages import DeliveryDetail

delivery_argument = click.argument("delivery", metavar="ID", type=click.IntRange(1))
SHOWN_ID = 8
"""Characters of a run's id in the table."""


@click.group()
def webhooks() -> None:
    """Look at deliveries of webhooks, and process one again."""


@webhooks.command("list")
@target_options
@click.option("--provider", metavar="NAME", help="Only of github, gitlab or bitbucket.")
@click.option("--status", metavar="STATUS", help="Only accepted, rejected, error, ignored or skipped ones.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="How many to leave out at the start.")
def list_(target: Target, provider: str | None, status: str | None, limit: int, offset: int) -> None:
    """List deliveries, newest first."""
    with target.client("asking for deliveries") as client:
        page = client.deliveries(limit, offset, provider=provider, status=status)
    if target.as_json:
        print_json(page)
        return
    for entry in page["deliveries"]:
        runs = ",".join(run[:SHOWN_ID] for run in entry.get("runs", [])) or "-"
        said = _plain(entry.get("error") or runs)
        cells = (str(entry["id"]), moment(entry["received_at"]), entry["provider"], _plain(entry["event"]))
        click.echo("\t".join((*cells, entry["status"], str(entry["http_status"]), said)))
    shown = offset + len(page["deliveries"])
    if sys.stdout.isatty() and page["total"] > shown:
        click.echo(f"{shown} of {page['total']}; more with --limit and --offset", err=True)


@webhooks.command()
@target_options
@delivery_argument
@click.option("--payload", is_flag=True, help="Also print what was sent, without what is secret.")
def show(target: Target, delivery: int, payload: bool) -> None:
    """Show a delivery: what was answered, and rule by rule why."""
    with target.client("asking for the delivery") as client:
        found = client.delivery(delivery)
    if target.as_json:
        print_json(found)
        return
    _print_delivery(found)
    if payload:
        print_json(found.get("payload"))


@webhooks.command()
@target_options
@delivery_argument
def redeliver(target: Target, delivery: int) -> None:
    """Process a delivery again, for example after a pipeline was repaired. Runs it has started stay the only ones."""
    with target.client("processing the delivery again") as client:
        made = client.redeliver(delivery)
    if target.as_json:
        print_json(made)
        return
    click.echo(f"delivery {made['id']}: {made['status']}, {len(made.get('runs', []))} runs")
    for run in made.get("runs", []):
        click.echo(f"run {run}")


def _print_delivery(found: DeliveryDetail) -> None:
    name = f"  {_plain(found['delivery'])}" if found.get("delivery") else ""
    click.echo(f"delivery {found['id']}  {found['provider']} {_plain(found['event'])}{name}")
    click.echo(f"received  {moment(found['received_at'])}")
    error = f": {_plain(found['error'])}" if found.get("error") else ""
    click.echo(f"answered  {found['http_status']}, {found['status']}{error}")
    if again := found.get("redelivery_of"):
        click.echo(f"again     delivery {again}")
    for run in found.get("runs", []):
        click.echo(f"run       {run}")
    for note in found["trace"]:
        mark = "+" if note["passed"] else "-"
        about = f" {_plain(note['pipeline'])}:" if note.get("pipeline") else ""
        click.echo(f"{mark} {note['rule']}:{about} {_plain(note['said'])}")


def _plain(text: str) -> str:
    return safe(text, colours=False)
