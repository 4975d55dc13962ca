"""How people name things: `slug/pipeline`, `slug/pipeline#41`, an id or its beginning. Turns a name into an id.

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
    from gocdnext.client import Client, Run

PAGE = 200
"""Runs in one request: the API's maximum (contract-runs 3.1)."""
SEARCHED_RUNS = 1000
"""How many of the newest runs are searched for the beginning of an id."""
SHORTEST_PREFIX = 4

_PREFIX = re.compile(r"[0-9a-f-]+", re.IGNORECASE)


def pipeline_id(client: Client, name: str) -> str:
    """The id of `slug/pipeline`, or of a pipeline given by its id."""
    if (given := _uuid(name)) is not None:
        return given
    slug, pipeline = _slug_and_pipeline(name)
    known = {entry["name"]: entry["id"] for entry in client.project(slug)["pipelines"]}
    if pipeline not in known:
        have = ", ".join(sorted(known)) or "none"
        raise Failure(f"project {slug} has no pipeline {pipeline!r}. It has: {have}")
    return str(known[pipeline])


def run_id(client: Client, name: str) -> str:
    """The id of a run named by id, beginning of an id, `slug/pipeline#counter`, or `slug/pipeline` for the newest."""
    if (given := _uuid(name)) is not None:
        return given
    if "/" not in name:
        return _by_prefix(client, name)
    name, hash_sign, counter = name.partition("#")
    slug, pipeline = _slug_and_pipeline(name)
    if hash_sign and not (counter.isascii() and counter.isdigit()):
        raise click.UsageError(f"{counter!r} is not the number of a run; say for example {name}#41")
    for run in _runs_of(client, slug, pipeline):
        if not hash_sign or run["counter"] == int(counter):
            return run["id"]
        if run["counter"] < int(counter):
            break
    wanted = f"no run #{counter}" if hash_sign else "no run yet"
    raise Failure(f"{slug}/{pipeline} has {wanted}. See: gocdnext runs --project {slug}")


def _by_prefix(client: Client, prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix) or len(prefix) < SHORTEST_PREFIX:
        raise click.UsageError(
            f"{prefix!r} names no run: give slug/pipeline#41, slug/pipeline for the newest, or an id "
            f"(at least its first {SHORTEST_PREFIX} characters)"
        )
    found: list[Run] = []
    for offset in range(0, SEARCHED_RUNS, PAGE):
        page = client.runs(limit=PAGE, offset=offset)["runs"]
        found += [run for run in page if run["id"].startswith(prefix.lower())]
        if len(page) < PAGE:
            break
    if not found:
        raise Failure(f"none of the newest {SEARCHED_RUNS} runs has an id that begins with {prefix}")
    if len({run["id"] for run in found}) > 1:
        several = ", ".join(run["id"] for run in found[:5])
        raise Failure(f"{prefix} is the beginning of several ids: {several}. Give more of it.")
    return found[0]["id"]


def _runs_of(client: Client, slug: str, pipeline: str) -> Iterator[Run]:
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
