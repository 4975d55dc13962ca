"""`runs`, `run show`, `cancel`: looking at runs and stopping one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gocdnext.cli import complete, select
from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.terminal import duration, moment, safe, status

if TYPE_CHECKING:
    from gocdnext.client import Job, Run, Stage

run_argument = click.argument("run", metavar="RUN", shell_complete=complete.runs)
SHOWN_ID = 8
"""Characters of an id in the table; a command takes the beginning of an id too."""
COLUMNS = ("run", "status", "cause", "by", "created", "took", "id")


@click.command()
@target_options
@click.option("--project", metavar="SLUG", shell_complete=complete.projects, help="Only runs of this project.")
@click.option("--pipeline", metavar="NAME", help="Only runs of pipelines of this name.")
@click.option("--status", metavar="STATUS", help="Only queued, running, success, failed or canceled runs.")
@click.option("--cause", metavar="CAUSE", help="Only runs of this cause: manual, webhook, upstream, poll, ...")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="How many to leave out at the start.")
def runs(target: Target, limit: int, offset: int, **filters: str | None) -> None:
    """List runs, newest first."""
    with target.client("asking for runs") as client:
        page = client.runs(limit=limit, offset=offset, **filters)
    if target.as_json:
        print_json(page)
    elif sys.stdout.isatty():
        _print_table(page["runs"], page["total"])
    else:
        for run in page["runs"]:
            click.echo("\t".join(_row(run)))


def _row(run: Run) -> tuple[str, ...]:
    """The values of COLUMNS."""
    took = duration(run.get("started_at"), run.get("finished_at"))
    by = safe(run.get("triggered_by") or "-", colours=False)
    return run_name(run), run["status"], run["cause"], by, moment(run.get("created_at")), took, run["id"]


def _print_table(runs: list[Run], total: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gocdnext.cli.terminal import COLOURS

    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, no_wrap=column not in ("by", "cause"), overflow="fold")
    for run in runs:
        name, state, *rest, run_id = _row(run)
        coloured = Text(state, style=COLOURS.get(state, ""))
        table.add_row(Text(name), coloured, *map(Text, rest), Text(run_id[:SHOWN_ID]))
    Console().print(table)
    if total > len(runs):
        click.echo(f"{len(runs)} of {total}; more with --limit and --offset", err=True)


@click.group()
def run() -> None:
    """Look at one run."""


@run.command()
@target_options
@run_argument
def show(target: Target, run: str) -> None:
    """Show a run with its stages and jobs.

    RUN is an id, the beginning of one, slug/pipeline#41, or slug/pipeline for the newest.
    """
    with target.client("asking for the run") as client:
        detail = client.run(select.run_id(client, run))
    if target.as_json:
        print_json(detail)
    else:
        print_run(detail)


def print_run(run: Run) -> None:
    """A run for people: a head, then stages and jobs."""
    click.echo(f"{run_name(run)}  {status(run['status'])}  {run['id']}")
    click.echo(f"cause     {run['cause']}, by {safe(run.get('triggered_by') or '-', colours=False)}")
    click.echo(f"created   {moment(run.get('created_at'))}")
    click.echo(f"took      {duration(run.get('started_at'), run.get('finished_at'))}")
    for reason in ("queue_reason", "cancel_reason"):
        if text := run.get(reason):
            click.echo(f"reason    {safe(str(text), colours=False)}")
    for revision in run.get("revisions", {}).values():
        branch = f" ({revision['branch']})" if revision.get("branch") else ""
        click.echo(f"revision  {safe(revision.get('revision', '') + branch, colours=False)}")
    stages = run.get("stages", [])
    width = max((len(name) for stage in stages for name in [stage["name"], *map(job_name, stage["jobs"])]), default=0)
    for stage in stages:
        _print_stage(stage, width)


def _print_stage(stage: Stage, width: int) -> None:
    took = duration(stage.get("started_at"), stage.get("finished_at"))
    click.echo(f"{safe(stage['name'], colours=False):{width + 2}}  {status(stage['status'], 17)}  {took}")
    for job in stage["jobs"]:
        took = duration(job.get("started_at"), job.get("finished_at")) if job.get("started_at") else "-"
        code = f"  exit {job['exit_code']}" if job.get("exit_code") else ""
        error = f"  {safe(job['error'], colours=False)}" if job.get("error") else ""
        name = safe(job_name(job), colours=False)
        click.echo(f"  {name:{width}}  {status(job['status'], 17)}  {took}{code}{error}")


def run_name(run: Run) -> str:
    """`slug/pipeline#41`, safe to print."""
    return safe(f"{run['project_slug']}/{run['pipeline_name']}#{run['counter']}", colours=False)


def job_name(job: Job) -> str:
    """`test`, or `test A=1,B=2` for a cell of a matrix."""
    key = job.get("matrix_key")
    return f"{job['name']} {key}" if key else job["name"]


@click.command()
@target_options
@run_argument
def cancel(target: Target, run: str) -> None:
    """Cancel a run: queued jobs are dropped, running ones get a signal.

    RUN is an id, the beginning of one, slug/pipeline#41, or slug/pipeline for the newest.
    """
    with target.client("canceling") as client:
        run_id = select.run_id(client, run)
        client.cancel_run(run_id)
    if target.as_json:
        print_json({"run_id": run_id, "status": "canceled"})
    else:
        click.echo(f"canceled {run_id}")
