"""`serve` and `agent`: the two long-running processes. Everything they are is elsewhere; this only starts them."""

from __future__ import annotations

from pathlib import Path

import click


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
    from gocdnext.server import main

    raise SystemExit(main(state_dir.absolute() if state_dir else None, with_local_agent=local_agent))


@click.command()
def agent() -> None:
    """Run an agent until SIGTERM or Ctrl-C, configured by GOCDNEXT_* variables."""
    from gocdnext.agent.main import main

    raise SystemExit(main())
