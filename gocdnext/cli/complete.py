"""Completion of slugs, pipelines and runs from the server: what the shell asks for while somebody types.

Nobody waits for it longer than about a second, and no error is ever shown: without an answer there are no candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import server_url, token_for

if TYPE_CHECKING:
    from gocdnext.client import Client

PATIENCE = 0.4
"""Seconds for a connection, and again for the answer."""
RECENT_RUNS = 50


def projects(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Slugs of projects."""
    slugs: set[str] = set()
    with _patient_client(ctx) as client:
        slugs = {project["slug"] for project in client.projects()["projects"]}
    return _starting(incomplete, slugs)


def pipelines(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """`slug/pipeline` names."""
    names: set[str] = set()
    with _patient_client(ctx) as client:
        for project in client.projects()["projects"]:
            names |= {f"{project['slug']}/{pipeline['name']}" for pipeline in project.get("top_pipelines") or []}
    return _starting(incomplete, names)


def runs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """`slug/pipeline#counter` of recent runs."""
    names: set[str] = set()
    with _patient_client(ctx) as client:
        for run in client.runs(limit=RECENT_RUNS)["runs"]:
            names.add(f"{run['project_slug']}/{run['pipeline_name']}#{run['counter']}")
    return _starting(incomplete, names)


def plugins(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of plugins."""
    names: set[str] = set()
    with _patient_client(ctx) as client:
        names = {plugin["name"] for plugin in client.plugins()["plugins"]}
    return _starting(incomplete, names)


@contextmanager
def _patient_client(ctx: click.Context) -> Iterator[Client]:
    """A client that gives up soon; whatever is wrong ends the block in silence."""
    from gocdnext.client import Client, ClientError

    try:
        url = server_url(ctx.params.get("server"))
        with Client(url, token_for(url), timeout=PATIENCE, connect_attempts=1) as client:
            yield client
    except (ClientError, click.ClickException, LookupError, TypeError):
        return


def _starting(incomplete: str, names: set[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
