"""`artifacts list`, `get`, `pin`, `unpin`: what the jobs of a run have delivered."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gocdnext.cli import select
from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.runs import run_argument
from gocdnext.cli.terminal import moment, safe

if TYPE_CHECKING:
    import tarfile

    from gocdnext.client import Client
    from gocdnext.client.messages import Artifact
else:  # the same without types: the filter of extraction came with Python 3.11.4
    from backports import tarfile

COLUMNS = ("job", "path", "status", "bytes", "expires", "sha256")
READY = "ready"


@click.group()
def artifacts() -> None:
    """List, fetch and keep what the jobs of a run have delivered."""


@artifacts.command("list")
@target_options
@run_argument
def list_(target: Target, run: str) -> None:
    """List the artifacts of a run.

    RUN is an id, the beginning of one, slug/pipeline#41, or slug/pipeline for the newest.
    """
    with target.client("asking for artifacts") as client:
        found = client.artifacts(select.run_id(client, run))
    if target.as_json:
        print_json(found)
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        for artifact in found:
            click.echo("\t".join(_row(artifact)))


@artifacts.command()
@target_options
@run_argument
@click.argument("paths", metavar="[PATH]", nargs=-1)
@click.option("--job", metavar="NAME", help="Only artifacts of this job.")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to put the files. Default: here.",
)
def get(target: Target, run: str, paths: tuple[str, ...], job: str | None, output: Path) -> None:
    """Fetch artifacts of a run and unpack them.

    PATH is an artifact as `artifacts list` shows it; without one, all of them. Each is checked against its hash before
    anything of it is unpacked. Files lie below DIR as they lay in the job's workspace, and replace those that are there.
    """
    with target.client() as client:
        found = client.artifacts(select.run_id(client, run))
        chosen = _chosen(found, paths, job)
        try:
            output.mkdir(parents=True, exist_ok=True)
            for artifact in chosen:
                with target.progress(f"fetching {artifact['path']}"):
                    _fetch(client, artifact, output)
                if not target.as_json:
                    click.echo(safe(f"{artifact['job_name']}: {artifact['path']}", colours=False))
        except OSError as error:
            raise Failure(f"cannot write to {output}: {error.strerror or error}") from error
    if target.as_json:
        print_json(chosen)


@artifacts.command()
@target_options
@run_argument
@click.argument("paths", metavar="[PATH]", nargs=-1)
def pin(target: Target, run: str, paths: tuple[str, ...]) -> None:
    """Keep artifacts of a run, whatever times and limits say; without a PATH all of them."""
    _pin(target, run, paths, pinned=True)


@artifacts.command()
@target_options
@run_argument
@click.argument("paths", metavar="[PATH]", nargs=-1)
def unpin(target: Target, run: str, paths: tuple[str, ...]) -> None:
    """Release artifacts of a run that were pinned."""
    _pin(target, run, paths, pinned=False)


def _pin(target: Target, run: str, paths: tuple[str, ...], *, pinned: bool) -> None:
    with target.client() as client:
        done = client.pin(select.run_id(client, run), paths, pinned=pinned)
    if target.as_json:
        print_json(done)
    else:
        click.echo(f"{done['changed']} artifacts {'pinned' if pinned else 'released'}")


def _chosen(found: list[Artifact], paths: tuple[str, ...], job: str | None) -> list[Artifact]:
    """The ready artifacts that are meant. Ends the command when a path fits none, or fits those of several jobs."""
    ready = [entry for entry in found if entry["status"] == READY and job in (None, entry["job_name"])]
    wanted = [path.rstrip("/") for path in paths]
    chosen = [entry for entry in ready if not wanted or entry["path"].rstrip("/") in wanted]
    there = {entry["path"].rstrip("/"): entry for entry in chosen}
    missing = [path for path in wanted if path not in there]
    if missing or not chosen:
        have = ", ".join(sorted({safe(entry["path"], colours=False) for entry in ready})) or "none"
        what = f"no artifact {missing[0]!r} that is ready" if missing else "no artifact that is ready"
        raise Failure(f"the run has {what}. Ready: {have}")
    if len(there) < len(chosen):
        jobs = sorted({entry["job_name"] for entry in chosen})
        if len(jobs) > 1:
            raise Failure(f"several jobs have left the same path: {', '.join(jobs)}. Say which with --job.")
        raise Failure(
            f"several instances of the job {jobs[0]} have left the same path; they would overwrite each other"
        )
    return chosen


def _fetch(client: Client, artifact: Artifact, output: Path) -> None:
    """Downloads one, checks it, unpacks it. Raises OSError."""
    digest = hashlib.sha256()
    with tempfile.TemporaryFile(dir=output) as file:
        for piece in client.download(artifact["download_url"]):
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != artifact["content_sha256"]:
            raise Failure(f"{artifact['path']}: what came has another hash than the server says; nothing was unpacked")
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:gz") as archive:
                # The filter refuses what would be written elsewhere, and what is no file, folder or harmless link.
                archive.extractall(output, filter="data")
        except (tarfile.TarError, EOFError) as error:
            raise Failure(f"{artifact['path']} cannot be unpacked: {error}") from error


def _row(artifact: Artifact) -> tuple[str, ...]:
    """The values of COLUMNS."""
    job, path = (safe(artifact[key], colours=False) for key in ("job_name", "path"))
    size = str(artifact["size_bytes"])
    expires = "pinned" if artifact.get("pinned_at") else moment(artifact.get("expires_at"))
    return job, path, artifact["status"], size, expires, artifact["content_sha256"] or "-"


def _print_table(found: list[Artifact]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column == "bytes" else "left", overflow="fold")
    for artifact in found:
        *values, digest = _row(artifact)
        table.add_row(*map(Text, values), Text(digest[:12]))
    Console().print(table)
