"""`logs`: what the jobs of a run have printed, stored or live. Interrupting it never touches the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from gocdnext.cli import select
from gocdnext.cli.common import FAILED, Failure, Target, print_json, target_options
from gocdnext.cli.runs import job_name, run_argument, run_name
from gocdnext.cli.terminal import colours_wanted, safe, status

if TYPE_CHECKING:
    from gocdnext.client import Client
    from gocdnext.client.messages import JobDetail, LogLine, RunDetail

WINDOW = 2000
"""Lines of each job in one answer: the API's maximum (contract-runs 3.2)."""
JOBS_AT_ONCE = 100
"""Cursors in one request: keeps the address of the request short enough for every proxy."""

Show = Callable[[str, str], None]


@click.command()
@target_options
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends; exit code 1 unless it succeeded.")
@click.option("--job", metavar="NAME", help="Only this job: all cells of its matrix, or one as 'test A=1,B=2'.")
@click.option("--plain", is_flag=True, help="Lines without the name of the job in front.")
@click.option("--raw", is_flag=True, help="Pass escape sequences through. Only for logs that you trust.")
def logs(target: Target, run: str, follow: bool, job: str | None, plain: bool, raw: bool) -> None:
    """Print the log of a run.

    RUN is an id, the beginning of one, slug/pipeline#41, or slug/pipeline for the newest. With --json each line is
    one JSON object, as in the API.
    """
    with target.client() as client:
        run_id = select.run_id(client, run)
        if follow:
            raise SystemExit(follow_run(target, client, run_id, job, printer(plain, raw)))
        detail = client.run(run_id)
        jobs = matching_jobs(detail, job)
        if target.as_json:
            for line in stored_lines(client, run_id, jobs):
                print_json(line)
        else:
            show = printer(plain, raw)
            for each in jobs:
                for text in client.log_text(run_id, each["id"]):
                    show(job_name(each), text)


def printer(plain: bool, raw: bool) -> Show:
    """What prints one line of one job."""
    colours = colours_wanted()

    def show(name: str, text: str) -> None:
        head = "" if plain else f"[{safe(name, colours=False)}] "
        # One line of a job may hold several: the shown script of a task does.
        for part in text.split("\n"):
            click.echo(head + (part if raw else safe(part, colours)), color=True)

    return show


def follow_run(target: Target, client: Client, run_id: str, job: str | None, show: Show) -> int:
    """Print lines as they come until the run has ended. Returns the exit code: 0 only for success."""
    run = client.run(run_id)
    names = {each["id"]: job_name(each) for each in matching_jobs(run, job)}
    state = ""
    for event in client.follow(run_id):
        if event.name == "end":
            state = event.data["status"]
            if target.as_json:
                print_json(event.data)
        elif event.name == "log":
            name = names.get(event.data["job_id"])
            if name is None:
                continue
            if target.as_json:
                print_json(event.data)
            else:
                show(name, event.data["text"])
    if not target.as_json:
        click.echo(f"run {run_name(run)} {status(state)}", err=True)
    return 0 if state == "success" else FAILED


def matching_jobs(run: RunDetail, wanted: str | None) -> list[JobDetail]:
    """Jobs of a run in the order of its stages; with `wanted`, those of that name. Ends the command when none fits."""
    jobs = [job for stage in run["stages"] for job in stage["jobs"]]
    if wanted is None:
        return jobs
    chosen = [job for job in jobs if wanted in (job["name"], job_name(job), job["id"])]
    if not chosen:
        raise Failure(f"the run has no job {wanted!r}. It has: {', '.join(sorted(map(job_name, jobs)))}")
    return chosen


def stored_lines(client: Client, run_id: str, jobs: list[JobDetail]) -> Iterator[dict[str, object]]:
    """The stored lines of jobs, job after job, in the form of the live stream (contract-runs 3.4)."""
    for start in range(0, len(jobs), JOBS_AT_ONCE):
        cursors = {job["id"]: 0 for job in jobs[start : start + JOBS_AT_ONCE]}
        pages: dict[str, list[LogLine]] = {}
        while cursors:
            answer = client.run(run_id, logs=WINDOW, since=cursors)
            for job in (job for stage in answer["stages"] for job in stage["jobs"] if job["id"] in cursors):
                pages[job["id"]] = job.get("logs") or []
            for job_id, lines in pages.items():
                for line in lines:
                    yield {"job_id": job_id, **line}
            cursors = {job_id: lines[-1]["seq"] for job_id, lines in pages.items() if len(lines) == WINDOW}
            pages = {}
