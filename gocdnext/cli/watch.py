"""Looking at a run again and again until it ends: what has changed since the last look. Prints nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gocdnext.client import RECONNECT_FOR, ApiError, CannotReachError

if TYPE_CHECKING:
    from gocdnext.client import Client
    from gocdnext.client.messages import RunDetail

BETWEEN = 1.0
"""Seconds from one look to the next; an unchanged run costs the server no more than its reading."""
OPEN = ("queued", "running")
GOING_ON = (502, 503, 504)
"""What a server, or a proxy before it, says while it starts."""


def changes(client: Client, run_id: str) -> Iterator[tuple[RunDetail, list[tuple[str, str]]]]:
    """The run each time that something has changed, with (name, status) of what did; the run itself comes last.

    Ends with the run. A server that is away may come back within RECONNECT_FOR seconds. Raises ApiError,
    CannotReachError.
    """
    known: dict[str, str] = {}
    while True:
        run = _patiently(client, run_id)
        now = _states(run)
        told = [(name, state) for name, state in now.items() if known.get(name) != state]
        if told:
            known = now
            yield run, told
        if run["status"] not in OPEN:
            return
        time.sleep(BETWEEN)


def _states(run: RunDetail) -> dict[str, str]:
    """Name and status of each stage, its jobs as `stage / job`, and of the run."""
    found: dict[str, str] = {}
    for stage in run.get("stages", []):
        found[stage["name"]] = stage["status"]
        for job in stage["jobs"]:
            key = f" {job['matrix_key']}" if job.get("matrix_key") else ""
            found[f"{stage['name']} / {job['name']}{key}"] = job["status"]
    return {**found, f"run #{run['counter']}": run["status"]}


def _patiently(client: Client, run_id: str) -> RunDetail:
    until = time.monotonic() + RECONNECT_FOR
    while True:
        try:
            return client.run(run_id)
        except (ApiError, CannotReachError) as error:
            passing = isinstance(error, CannotReachError) or error.status in GOING_ON
            if not passing or time.monotonic() > until:
                raise
        time.sleep(BETWEEN)
