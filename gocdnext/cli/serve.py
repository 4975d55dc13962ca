"""`serve` and `agent`: the two long-running processes. Everything they are is elsewhere; this only starts them."""

from __future__ import annotations

import math
from pathlib import Path

import click

from gocdnext.durations import go_duration


@click.command()
@click.option(
    "--state",
    "state_dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where database, keys and blobs are kept. Default: see `gocdnext config`, GOCDNEXT_STATE_DIR.",
)
@click.option("--local-agent", is_flag=True, help="Run an agent beside the server, for jobs on this machine.")
def serve(state_dir: Path | None, local_agent: bool) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Needs nothing else: without GOCDNEXT_DATABASE_URL it runs its own PostgreSQL inside the state directory.
    """
    from gocdnext.server.main import main

    raise SystemExit(main(state_dir.absolute() if state_dir else None, with_local_agent=local_agent))


@click.command()
@click.option(
    "--once", is_flag=True, help="Take one job and end. Exit code 0: it succeeded, 1: it failed, 3: none came."
)
@click.option(
    "--wait", metavar="DURATION", help="With --once: how long to wait for a job, e.g. 10m. Default: for ever."
)
def agent(once: bool, wait: str | None) -> None:
    """Run an agent until SIGTERM or Ctrl-C, configured by GOCDNEXT_* variables."""
    from gocdnext.agent.main import main

    seconds = go_duration(wait) if wait is not None else math.inf
    if seconds is None or seconds < 0:
        raise click.UsageError(f"--wait: {wait!r} is not a duration; write for example 30s, 5m or 1h30m")
    if wait is not None and not once:
        raise click.UsageError("--wait says how long --once waits; give both")
    raise SystemExit(main(once=once, wait=float(seconds)))
