"""`pipelines list`, `show`, `yaml`, `trigger`; `trigger` and `run PIPELINE`: a pipeline, and starting a run of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from gocdnext.cli import complete, select
from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.table import print_facts, print_rows
from gocdnext.cli.terminal import moment, safe, seconds

if TYPE_CHECKING:
    from gocdnext.client import Client
    from gocdnext.client.messages import PipelineSummary

pipeline_argument = click.argument("pipeline", metavar="SLUG/PIPELINE", shell_complete=complete.pipelines)
follow_option = click.option(
    "-f", "--follow", is_flag=True, help="Print its log until it ends; exit code 1 unless it succeeded."
)
PREVIEWED = 20
"""Pipelines of a project that the list of projects has (contract-runs 2.1)."""


@click.group()
def pipelines() -> None:
    """List pipelines, show one or its source, start a run. A pipeline is slug/pipeline, its id, or the beginning of it."""


@pipelines.command("list")
@target_options
@click.argument("project", metavar="[PROJECT]", required=False, shell_complete=complete.projects)
def list_(target: Target, project: str | None) -> None:
    """List the pipelines of a project, or of all, with how they stand."""
    with target.client("asking for pipelines") as client:
        found = list(_all(client) if project is None else _of_project(client, project))
    if target.as_json:
        print_json({"pipelines": found})
    else:
        print_rows(("pipeline", "status", "latest", "id"), map(_row, found))


def _all(client: Client) -> Iterator[dict[str, Any]]:
    for project in client.projects()["projects"]:
        if project["pipeline_count"] > PREVIEWED:
            yield from _of_project(client, project["slug"])
        else:
            yield from ({"project_slug": project["slug"], **entry} for entry in project.get("top_pipelines") or ())


def _of_project(client: Client, slug: str) -> Iterator[dict[str, Any]]:
    for entry in client.project(slug)["pipelines"]:
        yield {"project_slug": slug, **entry}


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    """A pipeline as the list of projects has it, or as their details do."""
    run = entry.get("latest_run") or {}
    status = run.get("status") or entry.get("latest_run_status") or "never run"
    latest = moment(run.get("created_at") or entry.get("latest_run_at"))
    return f"{entry['project_slug']}/{entry['name']}", status, latest, entry["id"]


@pipelines.command()
@target_options
@pipeline_argument
def show(target: Target, pipeline: str) -> None:
    """Show a pipeline: its stages and jobs, its newest run, its figures."""
    with target.client("asking for the pipeline") as client:
        slug, found = select.pipeline(client, pipeline)
    if target.as_json:
        print_json({"project_slug": slug, **found})
        return
    print_facts(_facts(slug, found))
    jobs = found.get("definition_jobs") or ()
    for stage in found.get("definition_stages") or ():
        click.echo(safe(stage, colours=False))
        for job in jobs:
            if job["stage"] == stage:
                click.echo(safe(f"  {job['name']}{'  (approval)' if job.get('approval_gate') else ''}", colours=False))


def _facts(slug: str, found: PipelineSummary) -> Iterator[tuple[str, str | None]]:
    run, metrics = found.get("latest_run"), found.get("metrics")
    yield "pipeline", f"{slug}/{found['name']}"
    yield "id", found["id"]
    yield "version", f"{found['definition_version']}, since {moment(found['updated_at'])}"
    yield "newest run", f"#{run['counter']} {run['status']}, {moment(run.get('created_at'))}" if run else "never run"
    if metrics and (counted := metrics["runs_considered"]):
        yield "success", f"{metrics['success_rate']:.0%} of {counted} in {metrics['window_days']} days"
        yield "typically", seconds(metrics["lead_time_p50_seconds"])


@pipelines.command("yaml")
@target_options
@pipeline_argument
def yaml_(target: Target, pipeline: str) -> None:
    """Print the file that a pipeline was made from, byte for byte."""
    with target.client("asking for the file") as client:
        found = client.pipeline_yaml(select.pipeline_id(client, pipeline))
    if target.as_json:
        print_json(found)
    else:
        click.echo(found["yaml"], nl=not found["yaml"].endswith("\n"))


@click.command()
@target_options
@pipeline_argument
@follow_option
def trigger(target: Target, pipeline: str, follow: bool) -> None:
    """Start a run of a pipeline, given as slug/pipeline or by its id."""
    start(target, pipeline, follow)


pipelines.add_command(trigger)


def start(target: Target, pipeline: str, follow: bool) -> None:
    """Starts a run, says which, and follows it where that is wanted."""
    with target.client("triggering") as client:
        answer = client.trigger(select.pipeline_id(client, pipeline))
    if target.as_json:
        print_json(answer)
    else:
        click.echo(f"run {safe(pipeline, colours=False)}#{answer['counter']} {answer['run_id']}")
    if follow:
        follow_to_the_end(target, answer["run_id"])


def follow_to_the_end(target: Target, run_id: str) -> None:
    """Prints the log of a run until it ends, and ends the command with its result."""
    from gocdnext.cli.logs import follow_run, printer

    with target.client() as client:
        raise SystemExit(follow_run(target, client, run_id, None, printer(plain=False, raw=False)))
