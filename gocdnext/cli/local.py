"""`run-local`: runs a pipeline file on this machine, without a server. How is in `gocdnext.local`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import FAILED, Failure
from gocdnext.cli.terminal import colours_wanted, safe

if TYPE_CHECKING:
    from gocdnext.local.machine import EngineName
    from gocdnext.local.report import Report
    from gocdnext.local.runner import Request
    from gocdnext.pipeline import Pipeline

INTERRUPTED = 130


@click.command("run-local")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--workspace",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    show_default=True,
    help="The directory that jobs run in. It is used as it is, not copied.",
)
@click.option("--job", metavar="NAME", help="Only this job (all its instances), or one instance: NAME[K=v,...].")
@click.option(
    "--event",
    type=click.Choice(["manual", "push", "pull_request"]),
    default="manual",
    show_default=True,
    help="What the run pretends to be started by (CI_CAUSE).",
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Values of the secrets: KEY=VALUE lines.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "host", "container"]),
    default="auto",
    show_default=True,
    help="auto: containers for jobs with an image if docker or podman answers, else processes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object a line.")
def run_local(
    file: Path, workspace: Path, job: str | None, event: str, env_file: Path | None, engine: EngineName, as_json: bool
) -> None:
    """Run the jobs of a pipeline file on this machine, one after the other, without a server.

    Gates are skipped, profiles are not simulated. All jobs share the workspace: artifacts and caches are there already,
    copied only for a `dest` of their own. Exit code 1 when a job failed, 2 when the run cannot begin like this.
    """
    import trio

    from gocdnext.agent.config import ConfigError
    from gocdnext.local.plan import PlanError, plan
    from gocdnext.local.report import JsonReport, TextReport
    from gocdnext.local.runner import Request

    pipeline = _read(file)
    secrets = _secrets(env_file)
    try:
        stages = plan(pipeline, job, secrets)
    except PlanError as error:
        raise click.UsageError(str(error)) from None
    report = JsonReport(_write) if as_json else TextReport(_write, _clean)
    request = Request(pipeline, stages, str(workspace.absolute()), event, secrets=secrets)
    try:
        raise SystemExit(trio.run(_run, request, engine, report))
    except ConfigError as error:
        raise Failure(str(error)) from None
    except ExceptionGroup as group:
        if group.split(BrokenPipeError)[1] is None:  # whoever read our output has gone
            raise BrokenPipeError from None
        raise


async def _run(request: Request, engine_name: EngineName, report: Report) -> int:
    """The exit code. The first SIGINT or SIGTERM stops the job and removes everything, the second ends it at once."""
    import dataclasses

    import trio

    from gocdnext.local.machine import head, open_engine
    from gocdnext.local.runner import Runner

    code = INTERRUPTED
    failure: Exception | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def obey() -> None:
                await anext(signals)
                click.echo("stopping; once more to leave everything as it is", err=True)
                running.cancel()
                await anext(signals)
                os._exit(INTERRUPTED)

            nursery.start_soon(obey)
            with trio.CancelScope() as running:
                try:
                    engine = await open_engine(engine_name, os.environ)
                    revision, branch = await head(request.workspace)
                    request = dataclasses.replace(request, revision=revision, branch=branch)
                    code = 0 if await Runner(request, engine, report).run() else FAILED
                except Exception as error:
                    failure = error  # raised below: the nursery would wrap it
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return code


def _read(file: Path) -> Pipeline:
    """The pipeline of the file. Its problems are printed as `validate` prints them."""
    from gocdnext.cli.validate import read, show_failure
    from gocdnext.pipeline import PipelineError, parse_file

    content = read(file)
    try:
        return parse_file(content, file.name).pipeline
    except PipelineError as error:
        show_failure(str(file), list(error.problems), content)
        raise SystemExit(FAILED) from None


def _secrets(file: Path | None) -> dict[str, str]:
    from gocdnext.local.envfile import MAX_BYTES, EnvFileError, parse

    if file is None:
        return {}
    try:
        with file.open("rb") as stream:
            return parse(stream.read(MAX_BYTES + 1))
    except EnvFileError as error:
        raise click.UsageError(f"{file} cannot be used: {error}") from None
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _clean(text: str) -> str:
    return safe(text, colours_wanted())
