"""How people name things: `slug/pipeline`, `slug/pipeline#41`, `#41/job`, an id or its beginning. Turns a name into an id.

Every look-up is bounded; a name that fits nothing, or more than one thing, ends the command with what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

import click

from gocdnext.cli.common import Failure

if TYPE_CHECKING:
    from gocdnext.client import Client
    from gocdnext.client.messages import AnyRun, JobDetail, PipelineSummary

PAGE = 200
"""Runs in one request: the API's maximum (contract-runs 3.1)."""
SEARCHED_RUNS = 1000
"""How many of the newest runs are searched for the beginning of an id."""
SHORTEST_PREFIX = 4

_PREFIX = re.compile(r"[0-9a-f-]+", re.IGNORECASE)
_RUN_AND_JOB = re.compile(
    r"(?P<run>(?:[^/#]+/[^/#]+)?#[^/]*|[0-9A-Fa-f-]{36}|[^/#]+/[^/#]+(?=/)|[0-9A-Fa-f-]+)/(?P<job>.+)"
)
"""A run with its number, its id, the newest run of a pipeline, or the beginning of an id; then a slash and a job."""


def pipeline_id(client: Client, name: str) -> str:
    """The id of `slug/pipeline`, or of a pipeline given by its id or the beginning of it."""
    if (given := _uuid(name)) is not None:
        return given
    return str(pipeline(client, name)[1]["id"])


def pipeline(client: Client, name: str) -> tuple[str, PipelineSummary]:
    """The slug of its project and what the project says of a pipeline (contract-runs 2.2)."""
    if "/" in name:
        slug, wanted = _slug_and_pipeline(name)
    else:
        slug, wanted = _pipeline_by_prefix(client, name)
    known = {entry["name"]: entry for entry in client.project(slug)["pipelines"]}
    if wanted not in known:
        have = ", ".join(sorted(known)) or "none"
        raise Failure(f"project {slug} has no pipeline {wanted!r}. It has: {have}")
    return slug, known[wanted]


def _pipeline_by_prefix(client: Client, prefix: str) -> tuple[str, str]:
    """Slug and name. The list of projects has the most pressing pipelines of each; others are named by their project."""
    _check_prefix(prefix, "pipeline", "slug/pipeline")
    found = [
        (project["slug"], entry["name"])
        for project in client.projects()["projects"]
        for entry in project.get("top_pipelines") or ()
        if entry["id"].startswith(prefix.lower())
    ]
    if not found:
        raise Failure(
            f"no pipeline has an id that begins with {prefix}. Give slug/pipeline; see: gocdnext pipelines list"
        )
    if len(found) > 1:
        raise Failure(
            f"{prefix} is the beginning of several ids: {', '.join(map('/'.join, found[:5]))}. Give more of it."
        )
    return found[0]


def run_id(client: Client, name: str) -> str:
    """The id of a run named by id, beginning of an id, `slug/pipeline#counter`, `slug/pipeline` for the newest, or
    `#counter` where only one pipeline has such a run."""
    if (given := _uuid(name)) is not None:
        return given
    if name.startswith("#"):
        return _by_counter(client, name[1:])
    if "/" not in name:
        return _by_prefix(client, name)
    name, hash_sign, counter = name.partition("#")
    slug, pipeline = _slug_and_pipeline(name)
    if hash_sign:
        _check_counter(counter, name)
    for run in _runs_of(client, slug, pipeline):
        if not hash_sign or run["counter"] == int(counter):
            return run["id"]
        if run["counter"] < int(counter):
            break
    wanted = f"no run #{counter}" if hash_sign else "no run yet"
    raise Failure(f"{slug}/{pipeline} has {wanted}. See: gocdnext runs --project {slug}")


def job_id(client: Client, name: str) -> str:
    """The id of a job named by id, or as `RUN/job` with a run as above."""
    return _uuid(name) or job_of_run(client, name)[1]["id"]


def job_of_run(client: Client, name: str) -> tuple[str, JobDetail]:
    """The id of the run and the job that `RUN/job` names: `slug/pipeline#41/job`, `#41/job`, `slug/pipeline/job`."""
    run, wanted = _run_and_job(name)
    found = run_id(client, run)
    jobs = [job for stage in client.run(found).get("stages", []) for job in stage["jobs"]]
    chosen = [job for job in jobs if wanted in (job["name"], _cell(job), job["id"])]
    if not chosen and len(wanted) >= SHORTEST_PREFIX:
        chosen = [job for job in jobs if job["id"].startswith(wanted.lower())]
    if len(chosen) == 1:
        return found, chosen[0]
    if chosen:
        raise Failure(f"{run} has several jobs {wanted!r}: {', '.join(map(_cell, chosen))}. Say which one.")
    raise Failure(f"{run} has no job {wanted!r}. It has: {', '.join(sorted(map(_cell, jobs))) or 'none'}")


def _run_and_job(name: str) -> tuple[str, str]:
    """`slug/pipeline#41/job` cut behind its run. The name of a job may have slashes; two parts are an id and a job."""
    match = _RUN_AND_JOB.fullmatch(name)
    if match is None:
        raise click.UsageError(f"{name!r} names no job: give slug/pipeline#41/job, #41/job, or the id of the job")
    return match["run"], match["job"]


def _cell(job: JobDetail) -> str:
    return f"{job['name']} {job['matrix_key']}" if job.get("matrix_key") else job["name"]


def _by_counter(client: Client, counter: str) -> str:
    _check_counter(counter, "")
    found = [run for run in _newest_runs(client) if run["counter"] == int(counter)]
    if len(found) == 1:
        return found[0]["id"]
    if not found:
        raise Failure(f"none of the newest {SEARCHED_RUNS} runs is #{counter}. Give slug/pipeline#{counter}.")
    several = ", ".join(f"{run['project_slug']}/{run['pipeline_name']}#{counter}" for run in found[:5])
    raise Failure(f"several pipelines have a run #{counter}: {several}. Say which one.")


def _check_counter(text: str, pipeline: str) -> None:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise click.UsageError(f"{text!r} is not the number of a run; say for example {pipeline}#41")


def _check_prefix(prefix: str, what: str, example: str) -> None:
    if not _PREFIX.fullmatch(prefix) or len(prefix) < SHORTEST_PREFIX:
        raise click.UsageError(
            f"{prefix!r} names no {what}: give {example}, or an id (at least its first {SHORTEST_PREFIX} characters)"
        )


def _newest_runs(client: Client) -> Iterator[AnyRun]:
    """The newest SEARCHED_RUNS runs of all pipelines."""
    for offset in range(0, SEARCHED_RUNS, PAGE):
        page = client.runs(limit=PAGE, offset=offset)["runs"]
        yield from page
        if len(page) < PAGE:
            break


def _by_prefix(client: Client, prefix: str) -> str:
    _check_prefix(prefix, "run", "slug/pipeline#41, slug/pipeline for the newest")
    found = [run for run in _newest_runs(client) if run["id"].startswith(prefix.lower())]
    if not found:
        raise Failure(f"none of the newest {SEARCHED_RUNS} runs has an id that begins with {prefix}")
    if len({run["id"] for run in found}) > 1:
        several = ", ".join(run["id"] for run in found[:5])
        raise Failure(f"{prefix} is the beginning of several ids: {several}. Give more of it.")
    return found[0]["id"]


def _runs_of(client: Client, slug: str, pipeline: str) -> Iterator[AnyRun]:
    """Runs of one pipeline, newest first. Raises the API's 404 for an unknown project."""
    offset = 0
    while True:
        page = client.runs(limit=PAGE if offset else 1, offset=offset, project=slug, pipeline=pipeline)["runs"]
        if not page:
            break
        yield from (run for run in page if run["pipeline_name"] == pipeline)
        offset += len(page)


def _slug_and_pipeline(name: str) -> tuple[str, str]:
    slug, slash, pipeline = name.partition("/")
    if not slug or not slash or not pipeline:
        raise click.UsageError(f"{name!r} names no pipeline: give slug/pipeline, for example billing/ci")
    return slug, pipeline


def _uuid(text: str) -> str | None:
    """The canonical form of a complete id, else None."""
    try:
        return str(UUID(text)) if len(text) >= 32 else None
    except ValueError:
        return None
