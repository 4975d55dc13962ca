"""`audit`: the trail of who did what, or tried to (contract-admin 7.3)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.table import print_rows
from gocdnext.cli.terminal import moment, parse, safe
from gocdnext.durations import retention

if TYPE_CHECKING:
    from gocdnext.client import Client
    from gocdnext.client.messages import AuditEvent

COLUMNS = ("at", "who", "from", "action", "with", "outcome", "details")
FOLDED = frozenset({"who", "with", "details"})
PAGE = 500
"""Events of one answer: the most that the server gives."""
DEFAULT_LIMIT = 100
PAUSE = 2.0
"""Seconds between two looks for new events."""
RECONNECT_FOR = 60.0
"""Seconds that a server may be away while it is followed: a restart fits in."""
OVERLAP = timedelta(seconds=10)
"""How much later than its time an event may become visible: events are written while others are read."""


@click.command()
@target_options
@click.option("--since", metavar="WHEN", help="From then on: 2026-04-28, an RFC 3339 time, or how long ago: 2h, 7d.")
@click.option("--until", metavar="WHEN", help="Up to then, without it.")
@click.option("--action", metavar="ACTION", help="Only this action, for example run.cancel.")
@click.option("--actor", metavar="TEXT", help="Only of people whose e-mail or name contains this.")
@click.option("--target", "target_id", metavar="ID", help="Only what was done with this run, job, project, ...")
@click.option("--outcome", type=click.Choice(["done", "refused", "failed", "unknown"]), help="Only what ended so.")
@click.option("--limit", type=click.IntRange(1), help="At most so many. Default: 100, and all with --since.")
@click.option("--follow", is_flag=True, help="Go on with new events as they come, oldest first.")
def audit(target: Target, limit: int | None, follow: bool, **filters: str | None) -> None:
    """Show who did what, or tried to, newest first.

    With --json it is one event a line, which is the form to keep or to send elsewhere. For administrators.
    """
    wanted = {
        "since": _when(filters.pop("since")),
        "to": _when(filters.pop("until")),
        **filters,
    }
    most = limit or (None if wanted["since"] and not follow else DEFAULT_LIMIT)
    with target.client() as client:
        found = _follow(client, wanted, most) if follow else islice(_events(client, wanted), most)
        if target.as_json:
            for event in found:
                print_json(event)
        elif follow or most is None:  # no table of what has no end, or may be very long
            for event in found:
                click.echo("\t".join(safe(value, colours=False) for value in _row(event)))
        else:
            print_rows(COLUMNS, map(_row, found), folded=FOLDED)


def _events(client: Client, wanted: dict[str, str | None]) -> Iterator[AuditEvent]:
    """All that fit, newest first, page by page."""
    offset, before = 0, set[str]()
    while True:
        page: list[AuditEvent] = client.audit(PAGE, offset, **wanted)["events"]
        # What was written meanwhile has moved the older ones on: the next page begins with some of this one.
        yield from (event for event in page if event["id"] not in before)
        if len(page) < PAGE:
            return
        offset, before = offset + PAGE, {event["id"] for event in page}


def _follow(client: Client, wanted: dict[str, str | None], most: int | None) -> Iterator[AuditEvent]:
    """The newest of what is there, oldest first, then what comes. Never ends by itself."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

    from gocdnext.client import may_come_back

    again = Retrying(
        retry=retry_if_exception(may_come_back),
        stop=stop_after_delay(RECONNECT_FOR),
        wait=wait_fixed(PAUSE),
        reraise=True,
    )
    found = _newest(client, wanted, most or DEFAULT_LIMIT)
    yield from reversed(found[:most])
    while True:
        seen = {event["id"] for event in found}
        if found:
            wanted = wanted | {"since": (parse(found[0]["at"]) - OVERLAP).isoformat()}
        time.sleep(PAUSE)
        found = again(lambda wanted=wanted: list(_events(client, wanted))) or found
        yield from (event for event in reversed(found) if event["id"] not in seen)


def _newest(client: Client, wanted: dict[str, str | None], most: int) -> list[AuditEvent]:
    """The newest events, and those beyond them that the next look will meet again."""
    found: list[AuditEvent] = []
    for event in _events(client, wanted):
        if len(found) >= most and parse(event["at"]) < parse(found[0]["at"]) - OVERLAP:
            break
        found.append(event)
    return found


def _when(text: str | None) -> str | None:
    """A time as the server takes it; a length of time is so long ago."""
    ago = retention(text) if text else None
    if ago is None:
        return text
    return (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(timespec="seconds")


def _row(event: AuditEvent) -> tuple[str, ...]:
    """The values of COLUMNS."""
    actor = event.get("actor_email") or event.get("actor_name") or "-"
    what = f"{event['target_type']} {event.get('target_id') or '-'}"
    ended = f"{event['outcome']} {event.get('status') or '-'}"
    details = " ".join(f"{name}={value}" for name, value in event["metadata"].items())
    return moment(event["at"]), actor, event.get("address") or "-", event["action"], what, ended, details
