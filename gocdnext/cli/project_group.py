"""`projects list`, `show`, `delete`, `run-all`, `poll-interval` and, from elsewhere, `sync`; `dashboard`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gocdnext.cli import complete, project_configs
from gocdnext.cli.common import FAILED, Target, print_json, target_options
from gocdnext.cli.providers import check_reporting, rotate_webhook_secret
from gocdnext.cli.table import print_facts, print_rows
from gocdnext.cli.terminal import moment, safe, seconds

if TYPE_CHECKING:
    from gocdnext.client.messages import DashboardMetrics, PipelineSummary, ProjectDetail, ProjectSummary

project_argument = click.argument("project", metavar="PROJECT", shell_complete=complete.projects)


@click.group()
def projects() -> None:
    """List, show, sync and delete projects; start all pipelines of one. To create or change one, use `apply`."""


projects.add_command(project_configs.sync)
projects.add_command(project_configs.pr_head_config)


@projects.command("list")
@target_options
@click.option("--limit", type=click.IntRange(1), help="How many. Default: all.")
@click.option("--offset", type=click.IntRange(0), default=0, help="How many to leave out at the start.")
def list_(target: Target, limit: int | None, offset: int) -> None:
    """List projects, the one that changed last first."""
    with target.client("asking for projects") as client:
        found = client.projects(limit, offset)
    if target.as_json:
        print_json(found)
        return
    columns = ("project", "status", "pipelines", "runs", "latest", "provider", "name")
    print_rows(columns, map(_row, found["projects"]), folded=frozenset({"name"}))


def _row(project: ProjectSummary) -> tuple[str, ...]:
    counts = str(project["pipeline_count"]), str(project["run_count"])
    latest, provider = moment(project.get("latest_run_at")), project.get("provider") or "-"
    return project["slug"], project["status"], *counts, latest, provider, project["name"]


@projects.command()
@target_options
@project_argument
def show(target: Target, project: str) -> None:
    """Show a project with its pipelines and how they stand."""
    with target.client("asking for the project") as client:
        found = client.project(project)
    if target.as_json:
        print_json(found)
        return
    print_facts(_facts(found))
    if found["pipelines"]:
        click.echo()
        print_rows(
            ("pipeline", "status", "run", "started", "success", "typically", "id"), map(_pipeline, found["pipelines"])
        )


def _facts(found: ProjectDetail) -> Iterator[tuple[str, str | None]]:
    project, source = found["project"], found.get("scm_source")
    yield "project", project["slug"]
    yield "name", project["name"] if project["name"] != project["slug"] else None
    yield "about", project.get("description")
    yield "status", project["status"] or None
    yield "source", None if source is None else f"{source['provider']} {source['url']} ({source['default_branch']})"
    yield "files", project.get("config_path")
    if source is not None and source.get("last_synced_revision"):
        yield "synced", f"{moment(source['last_synced_at'])} from commit {source['last_synced_revision'][:12]}"
    yield "broken", None if source is None else source.get("sync_error")
    yield "labels", ", ".join(f"{label['key']}={label['value']}" for label in project.get("labels") or ())
    yield "changed", moment(project["updated_at"])


def _pipeline(pipeline: PipelineSummary) -> tuple[str, ...]:
    run, metrics = pipeline.get("latest_run"), pipeline.get("metrics")
    counted = metrics if metrics and metrics["runs_considered"] else None
    return (
        pipeline["name"],
        run["status"] if run else "never run",
        f"#{run['counter']}" if run else "-",
        moment(run.get("started_at") if run else None),
        f"{counted['success_rate']:.0%} of {counted['runs_considered']}" if counted else "-",
        seconds(counted["lead_time_p50_seconds"]) if counted else "-",
        pipeline["id"],
    )


@projects.command()
@target_options
@project_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(target: Target, project: str, yes: bool) -> None:
    """Delete a project with its pipelines, runs, logs, artifacts and secrets. Nothing of it can be brought back.

    What still runs is cancelled. Only administrators may do this.
    """
    if not yes:
        _confirm(project)
    with target.client(f"deleting {project}") as client:
        gone = client.delete_project(project)
    if target.as_json:
        print_json(gone)
    else:
        click.echo(
            f"deleted {safe(project, colours=False)}: {gone['pipelines_deleted']} pipelines, {gone['runs_deleted']} runs, "
            f"{gone['secrets_deleted']} secrets"
        )


def _confirm(project: str) -> None:
    """Lets somebody at a terminal type the name again. Ends the command when it is another, or when nobody is there."""
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is here to confirm: say --yes to delete the project with its whole history")
    if click.prompt(f"Type {safe(project, colours=False)} to delete it with its whole history", err=True) != project:
        raise click.UsageError("that is another name; nothing was deleted")


@projects.command("run-all")
@target_options
@project_argument
def run_all(target: Target, project: str) -> None:
    """Start a run of every pipeline of a project, from the head of its branch.

    Exit code 1 when a pipeline could not be started; the others are.
    """
    with target.client(f"starting all pipelines of {project}") as client:
        answer = client.run_all(project)
        names = {} if target.as_json else {entry["id"]: entry["name"] for entry in client.project(project)["pipelines"]}
    if target.as_json:
        print_json(answer)
    for result in [] if target.as_json else answer["results"]:
        name = safe(f"{project}/{names.get(result['pipeline_id'], result['pipeline_id'])}", colours=False)
        if result.get("error"):
            click.echo(f"error: {name}: {safe(result['error'], colours=False)}", err=True)
        else:
            click.echo(f"run {name} {result['run_id']}")
    if any(result.get("error") for result in answer["results"]):
        raise SystemExit(FAILED)


@projects.command("poll-interval")
@target_options
@project_argument
@click.argument("interval")
def poll_interval(target: Target, project: str, interval: str) -> None:
    """Poll the repository of a project every INTERVAL (1m to 24h), or not at all: off.

    A git material with a `poll_interval` of its own keeps it.
    """
    with target.client(f"setting how often the repository of {project} is polled") as client:
        answer = client.set_poll_interval(project, "" if interval == "off" else interval)
    if target.as_json:
        print_json(answer)
        return
    how = f"polled every {answer['interval']}" if answer["enabled"] else "not polled"
    click.echo(f"the repository of {safe(project, colours=False)} is {how}")


projects.add_command(check_reporting)
projects.add_command(rotate_webhook_secret)


@click.command()
@target_options
def dashboard(target: Target) -> None:
    """Show the figures of the whole server: runs of today and of the last seven days, what waits now."""
    with target.client("asking for the figures") as client:
        found = client.dashboard()
    if target.as_json:
        print_json(found)
        return
    print_facts(
        (
            ("runs today", str(found["runs_today"])),
            ("last 7 days", _week(found)),
            ("typically", seconds(found["p50_seconds_7d"])),
            ("queued runs", str(found["queued_runs"])),
            ("open jobs", str(found["pending_jobs"])),
        )
    )


def _week(found: DashboardMetrics) -> str:
    ended = {"success": found["successes_7d"], "failed": found["failures_7d"], "canceled": found["canceled_7d"]}
    told = ", ".join(f"{count} {name}" for name, count in ended.items())
    return f"{told} ({found['success_rate_7d']:.0%} success)"
