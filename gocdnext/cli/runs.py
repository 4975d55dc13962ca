"""`runs list`, `show`, `watch`, `cancel`, `rerun`; `run PIPELINE`, `run show`, `cancel`: looking at runs, steering them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gocdnext.cli import complete, select
from gocdnext.cli.common import FAILED, Target, print_json, target_options
from gocdnext.cli.groups import DefaultGroup
from gocdnext.cli.pipelines import follow_option, follow_to_the_end, pipeline_argument
from gocdnext.cli.pipelines import start as start_run
from gocdnext.cli.table import print_rows
from gocdnext.cli.terminal import duration, moment, safe, status

if TYPE_CHECKING:
    from gocdnext.client.messages import AnyRun, JobDetail, RunDetail, StageDetail

run_argument = click.argument("run", metavar="RUN", shell_complete=complete.runs)
COLUMNS = ("run", "status", "cause", "by", "created", "took", "id")


@click.group(cls=DefaultGroup, default="list")
def runs() -> None:
    """List runs, show, watch, cancel and repeat one. Without a command: list.

    A run is slug/pipeline#41, slug/pipeline for the newest, #41 where only one pipeline has such a run, an id, or the
    beginning of one.
    """


@runs.command("list")
@target_options
@click.option("--project", metavar="SLUG", shell_complete=complete.projects, help="Only runs of this project.")
@click.option("--pipeline", metavar="NAME", help="Only runs of pipelines of this name.")
@click.option("--status", metavar="STATUS", help="Only queued, running, success, failed or canceled runs.")
@click.option("--cause", metavar="CAUSE", help="Only runs of this cause: manual, webhook, upstream, poll, ...")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="How many to leave out at the start.")
def list_(target: Target, limit: int, offset: int, **filters: str | None) -> None:
    """List runs, newest first."""
    with target.client("asking for runs") as client:
        page = client.runs(limit=limit, offset=offset, **filters)
    if target.as_json:
        print_json(page)
        return
    print_rows(COLUMNS, map(_row, page["runs"]), folded=frozenset({"by", "cause"}))
    if sys.stdout.isatty() and page["total"] > len(page["runs"]):
        click.echo(f"{len(page['runs'])} of {page['total']}; more with --limit and --offset", err=True)


def _row(run: AnyRun) -> tuple[str, ...]:
    """The values of COLUMNS."""
    took = duration(run.get("started_at"), run.get("finished_at"))
    by = run.get("triggered_by") or "-"
    return run_name(run), run["status"], run["cause"], by, moment(run.get("created_at")), took, run["id"]


@click.group(cls=DefaultGroup, default="start")
def run() -> None:
    """Start a run of a pipeline: `gocdnext run slug/pipeline` is `gocdnext run start slug/pipeline`."""


@run.command()
@target_options
@pipeline_argument
@follow_option
def start(target: Target, pipeline: str, follow: bool) -> None:
    """Start a run of a pipeline, given as slug/pipeline, by its id, or the beginning of it."""
    start_run(target, pipeline, follow)


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


runs.add_command(show)


def print_run(run: RunDetail) -> None:
    """A run for people: a head, then stages and jobs."""
    click.echo(f"{run_name(run)}  {status(run['status'])}  {run['id']}")
    click.echo(f"cause     {run['cause']}, by {safe(run.get('triggered_by') or '-', colours=False)}")
    click.echo(f"created   {moment(run.get('created_at'))}")
    click.echo(f"took      {duration(run.get('started_at'), run.get('finished_at'))}")
    for reason in ("queue_reason", "cancel_reason"):
        if text := run.get(reason):
            click.echo(f"reason    {safe(str(text), colours=False)}")
    if waiting := run.get("waiting"):
        click.echo(f"waiting   {safe(waiting['text'], colours=False)}")
    for revision in run.get("revisions", {}).values():
        branch = f" ({revision['branch']})" if revision.get("branch") else ""
        click.echo(f"revision  {safe(revision.get('revision', '') + branch, colours=False)}")
    stages = run.get("stages", [])
    width = max((len(name) for stage in stages for name in [stage["name"], *map(job_name, stage["jobs"])]), default=0)
    for stage in stages:
        _print_stage(stage, width)


def _print_stage(stage: StageDetail, width: int) -> None:
    took = duration(stage.get("started_at"), stage.get("finished_at"))
    click.echo(f"{safe(stage['name'], colours=False):{width + 2}}  {status(stage['status'], 17)}  {took}")
    for job in stage["jobs"]:
        took = duration(job.get("started_at"), job.get("finished_at")) if job.get("started_at") else "-"
        code = f"  exit {job['exit_code']}" if job.get("exit_code") else ""
        error = f"  {safe(job['error'], colours=False)}" if job.get("error") else ""
        name = safe(job_name(job), colours=False)
        click.echo(f"  {name:{width}}  {status(job['status'], 17)}  {took}{code}{error}")


def run_name(run: AnyRun) -> str:
    """`slug/pipeline#41`, safe to print."""
    return safe(f"{run['project_slug']}/{run['pipeline_name']}#{run['counter']}", colours=False)


def job_name(job: JobDetail) -> str:
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


runs.add_command(cancel)


@runs.command()
@target_options
@run_argument
@follow_option
def rerun(target: Target, run: str, follow: bool) -> None:
    """Make a new run of a finished one, with the same revisions.

    RUN is an id, the beginning of one, slug/pipeline#41, or slug/pipeline for the newest.
    """
    with target.client("repeating") as client:
        answer = client.rerun_run(select.run_id(client, run))
    if target.as_json:
        print_json(answer)
    else:
        click.echo(f"run #{answer['counter']} {answer['run_id']}")
    if follow:
        follow_to_the_end(target, answer["run_id"])


@runs.command()
@target_options
@run_argument
def watch(target: Target, run: str) -> None:
    """Tell how the stages and jobs of a run get on until it ends. Exit code 1 unless it succeeded.

    RUN is an id, the beginning of one, slug/pipeline#41, or slug/pipeline for the newest. With --json the run is
    printed each time that something about it has changed.
    """
    from gocdnext.cli.watch import changes

    with target.client() as client:
        state = ""
        for detail, told in changes(client, select.run_id(client, run)):
            state = detail["status"]
            if target.as_json:
                print_json(detail)
                continue
            for name, now in told:
                click.echo(f"{status(now, 17)}  {safe(name, colours=False)}")
    raise SystemExit(0 if state == "success" else FAILED)
