"""`doctor`: is this machine fit to serve, and is the server in order? And `doctor bundle`, what a bug report needs.

The checks are in `gocdnext.doctor`; here is only how they are asked for and shown.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import FAILED, Failure, Target, print_json, target_options, token_for
from gocdnext.cli.terminal import safe

if TYPE_CHECKING:
    from gocdnext.doctor.findings import Finding
    from gocdnext.doctor.rounds import Asked, Round

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skipped": "bright_black"}
state_option = click.option(
    "--state", type=click.Path(path_type=Path), metavar="DIR", help="The state directory to look at."
)
no_server_option = click.option("--no-server", is_flag=True, help="Do not ask the server.")


@click.group(invoke_without_command=True)
@target_options
@state_option
@no_server_option
@click.pass_context
def doctor(context: click.Context, target: Target, state: Path | None, no_server: bool) -> None:
    """Check that this machine, the database and the server are in order, and say what to do.

    Nothing is changed. Exit code 1 when something has to be done now (fail); what can wait (warn) is exit code 0.
    """
    if context.invoked_subcommand is not None:
        context.obj = _asked(target, state, no_server)
        return
    found = _round(_asked(target, state, no_server), target)
    if target.as_json:
        checks = [
            {**_document(finding), "seconds": each.seconds} for each in found.examined for finding in each.findings
        ]
        print_json({"ok": not found.failed, "checks": checks})
    else:
        for finding in found.findings:
            _show(finding)
    raise SystemExit(FAILED if found.failed else 0)


@doctor.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--log", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The server's log, if in a file."
)
@click.pass_obj
def bundle(asked: Asked, file: Path, log: Path | None) -> None:
    """Write FILE (.tar.gz) for a bug report: versions, settings, findings, recent log, sizes, metrics. No secrets."""
    from gocdnext.doctor.bundle import write

    found = _round(asked, None)
    try:
        names = write(file, asked, found, log)
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror or error}") from None
    click.echo(f"{file}: {', '.join(names)}")
    click.echo(
        "Settings are shown without secrets, and logs without what looks like one. Have a look before you send it."
    )


def _asked(target: Target, state: Path | None, no_server: bool) -> Asked:
    from gocdnext.doctor.rounds import Asked

    return Asked(state, os.environ, target.server, token_for(target.server), not no_server)


def _round(asked: Asked, target: Target | None) -> Round:
    import trio

    from gocdnext import journal
    from gocdnext.doctor.rounds import look

    journal.configure("error", sys.stderr.buffer)  # standard output is for the answer, which may be JSON
    if target is None:
        return trio.run(look, asked)
    with target.progress("looking"):
        return trio.run(look, asked)


def _document(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "status": finding.status.value,
        "ok": finding.status.value in ("ok", "skipped"),
        "found": finding.found,
        "advice": finding.advice,
    }


def _show(finding: Finding) -> None:
    word = "FAIL" if finding.status == "fail" else str(finding.status.value)
    click.echo(
        f"{click.style(f'{word:7}', fg=COLOURS[finding.status.value])}  {finding.name:21} {safe(finding.found, colours=False)}"
    )
    if finding.advice:
        click.echo(f"         {'':21} {safe(finding.advice, colours=False)}")
