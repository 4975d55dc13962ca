"""`tests`, `coverage`: what the jobs of a run have reported."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from gocdnext.cli import complete, select
from gocdnext.cli.common import FAILED, Target, print_json, target_options
from gocdnext.cli.runs import run_argument
from gocdnext.cli.terminal import moment, safe

if TYPE_CHECKING:
    from gocdnext.client.messages import CoverageTrend, RunCoverage, RunTests

BAD = ("failed", "errored")


@click.command()
@target_options
@run_argument
@click.option("--all", "every", is_flag=True, help="All cases, not only those that failed.")
def tests(target: Target, run: str, every: bool) -> None:
    """Show the test results of a run: figures, then the cases that failed.

    RUN is an id, the beginning of one, slug/pipeline#41, or slug/pipeline for the newest. Exit code 1 when a case has
    failed.
    """
    with target.client("asking for test results") as client:
        found = client.tests(select.run_id(client, run))
    if target.as_json:
        print_json(found)
    else:
        _print_tests(found, every)
    if any(summary["failed"] or summary["errored"] for summary in found["summaries"]):
        sys.exit(FAILED)


def _print_tests(found: RunTests, every: bool) -> None:
    summaries: Sequence[Mapping[str, Any]] = found["summaries"]
    totals = {
        word: sum(summary[word] for summary in summaries)
        for word in ("total", "passed", "failed", "errored", "skipped")
    }
    if not totals["total"]:
        click.echo("no test results")
        return
    click.echo(", ".join(f"{count} {word}" for word, count in totals.items()))
    for case in found["cases"]:
        if every or case["status"] in BAD:
            name = "/".join(filter(None, (case["suite"], case.get("classname", ""), case["name"])))
            row = (case["status"], name, f"{case['duration_ms']} ms", case.get("failure_message", ""))
            click.echo(_line(row))


@click.command()
@target_options
@click.argument("name", metavar="RUN|PIPELINE", shell_complete=complete.runs)
@click.option("--trend", is_flag=True, help="The pipeline's newest figures, newest first.")
@click.option(
    "--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="With --trend: how many a job."
)
def coverage(target: Target, name: str, trend: bool, limit: int) -> None:
    """Show how much of the code the tests of a run have covered; with --trend, of a pipeline over time.

    RUN is an id, the beginning of one, slug/pipeline#41, or slug/pipeline for the newest. PIPELINE is slug/pipeline or
    an id.
    """
    with target.client("asking for coverage") as client:
        found: CoverageTrend | RunCoverage
        if trend:
            found = over_time = client.coverage_trend(select.pipeline_id(client, name), limit)
            rows = [_point(row) for row in over_time["points"]]
        else:
            found = of_run = client.coverage(select.run_id(client, name))
            rows = [_report(row) for row in of_run["coverage"]]
    if target.as_json:
        print_json(found)
        return
    for row in rows:
        click.echo(_line(row))
    if not rows:
        click.echo("no coverage")


def _point(row: Mapping[str, Any]) -> Sequence[str]:
    return moment(row["created_at"]), _job(row), percent(row), row["run_id"]


def _report(row: Mapping[str, Any]) -> Sequence[str]:
    lines = f"{row['lines_covered']}/{row['lines_total']} lines"
    before = row.get("baseline")
    return _job(row), percent(row), lines, f"before {percent(before)}" if before else ""


def _job(row: Mapping[str, Any]) -> str:
    key = row.get("matrix_key")
    return f"{row['job_name']} {key}" if key else str(row["job_name"])


def percent(row: Mapping[str, Any]) -> str:
    """Covered lines of all lines; a report of no lines has none."""
    return f"{100 * row['lines_covered'] / row['lines_total']:.1f}%" if row["lines_total"] else "-"


def _line(row: Sequence[str]) -> str:
    return "\t".join(safe(value, colours=False) for value in row).rstrip("\t")
