"""`jobs cancel`, `rerun`, `approve`, `reject`, `log`: one job of a run."""

from __future__ import annotations

from typing import Any

import click

from gocdnext.cli import complete, select
from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.terminal import safe

job_argument = click.argument("job", metavar="RUN/JOB", shell_complete=complete.runs)


@click.group()
def jobs() -> None:
    """Cancel, repeat, approve, reject a job, or print its log.

    A job is slug/pipeline#41/job, slug/pipeline/job for the newest run, #41/job where only one pipeline has such a run,
    the beginning of a run's id and /job, or the id of the job. A cell of a matrix is 'test A=1,B=2'.
    """


@jobs.command()
@target_options
@job_argument
def cancel(target: Target, job: str) -> None:
    """Cancel a queued job, or tell the agent of a running one to stop."""
    with target.client("canceling") as client:
        done = client.cancel_job(select.job_id(client, job))
    if target.as_json:
        print_json(done)
    else:
        click.echo(f"{done['status']} {safe(done['job_name'], colours=False)} {done['job_run_id']}")


@jobs.command()
@target_options
@job_argument
def rerun(target: Target, job: str) -> None:
    """Run a finished job again, in the same run."""
    with target.client("repeating") as client:
        done = client.rerun_job(select.job_id(client, job))
    if target.as_json:
        print_json(done)
    else:
        click.echo(f"queued {done['job_run_id']}, attempt {done['attempt']}")


def vote_options(command: Any) -> Any:
    """Adds `--comment` and `--as`."""
    command = click.option("--comment", metavar="TEXT", default="", help="A note that is kept with the decision.")(
        command
    )
    return click.option(
        "--as", "user", metavar="NAME", default="", help="Who you are. Counts only where nobody has to sign in."
    )(command)


@jobs.command()
@target_options
@job_argument
@vote_options
def approve(target: Target, job: str, comment: str, user: str) -> None:
    """Approve a gate. It opens when enough people have."""
    _vote(target, job, "approve", comment, user)


@jobs.command()
@target_options
@job_argument
@vote_options
def reject(target: Target, job: str, comment: str, user: str) -> None:
    """Reject a gate: it fails at once."""
    _vote(target, job, "reject", comment, user)


def _vote(target: Target, job: str, decision: str, comment: str, user: str) -> None:
    with target.client("deciding") as client:
        done = client.vote(select.job_id(client, job), decision, comment=comment, user=user)
    if target.as_json:
        print_json(done)
        return
    verb = "approved" if decision == "approve" else "rejected"
    still = f", {done['approvals_now']} of {done['approvals_required']} approvals" if done["pending_quorum"] else ""
    click.echo(f"{verb} {done['job_run_id']}{still}")


@jobs.command()
@target_options
@job_argument
@click.option("--raw", is_flag=True, help="Pass escape sequences through. Only for logs that you trust.")
def log(target: Target, job: str, raw: bool) -> None:
    """Print the log of a job. With --json each line is one JSON object, as in the API."""
    from gocdnext.cli.logs import printer, stored_lines

    with target.client() as client:
        run_id, found = select.job_of_run(client, job)
        if target.as_json:
            for line in stored_lines(client, run_id, [found]):
                print_json(line)
        else:
            show = printer(plain=True, raw=raw)
            for text in client.log_text(run_id, found["id"]):
                show("", text)
