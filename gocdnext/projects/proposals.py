"""Pull requests that run with the configuration that they bring (contract-admin 8.7, spec-pipelines 9.6).

Only for projects that asked for it, and never for forks. Stages, jobs, services and variables are the request's; what starts
the pipeline, whom it tells and where its services run stay the project's. All or nothing: never a silent fall-back.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
import trio

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.materials import folders, git
from gocdnext.materials.arrivals import Arrival
from gocdnext.materials.remotes import Remotes, Repository
from gocdnext.materials.webhooks.drift import Proposed
from gocdnext.materials.webhooks.events import Request
from gocdnext.materials.webhooks.trace import Trace
from gocdnext.pipeline import model
from gocdnext.pipeline.fingerprints import normal_git_url
from gocdnext.pipeline.model import Pipeline, Service
from gocdnext.pipeline.profiles import Profile
from gocdnext.pipeline.profiles import merged as with_profiles
from gocdnext.plugins.catalogue import Catalogue
from gocdnext.projects.apply import BrokenError, understood
from gocdnext.secrets import profiles

_SQL = queries.load("configs")
RULE = "pull request's configuration"
"""The name of this rule in traces."""
WITHIN = 30.0
"""Seconds for reading a request's configuration."""
MAX_JOBS = 1000
"""Jobs of a run with a request's configuration (spec-pipelines 7)."""
UNAVAILABLE = (503, "pr-head: config temporarily unavailable")
UNBOUND = (422, "pr-head: no scm binding for repo")
AMBIGUOUS = (422, "pr-head: ambiguous scm binding")
INVALID = (422, "pr-head: config invalid")


class _BlockedError(Exception):
    """The request's own configuration is not to be had: the refusal, and the reason for people."""

    def __init__(self, refusal: tuple[int, str], why: str) -> None:
        super().__init__(why)
        self.refusal = refusal


async def proposed(
    db: Database,
    remotes: Remotes,
    catalogue: Catalogue,
    request: Request,
    arrivals: Sequence[Arrival],
    trace: Trace,
    *,
    now: datetime,
    new_id: Callable[[], UUID],
    resolved: Callable[[str, float], None],
) -> Proposed:
    """The runs that a request asks for, those of its own configuration last. `resolved` is told how each reading of one
    ended (`ok`, `fetch_error`, `invalid`) and the seconds it took. Raises DatabaseUnavailableError."""
    bindings = await db.fetch(_SQL.bindings, normal_git_url(request.url))
    trusting = [row for row in bindings if row["trusts"]]
    if bindings and not trusting:
        return Proposed(tuple(arrivals))
    own: list[Arrival] = []
    try:
        if not bindings:
            raise _BlockedError(UNBOUND, "no project is bound to this repository any more")
        rows = [row for one in trusting for row in await _pipelines(db, one, arrivals)]
        mine = {row["id"]: row for row in rows}
        own = [arrival for arrival in arrivals if arrival.pipeline_id in mine]
        if len(trusting) > 1:
            raise _BlockedError(
                AMBIGUOUS, "more than one project bound to this repository lets requests bring their own"
            )
        if not own:
            return Proposed(tuple(arrivals))
        known = await db.run(profiles.for_apply)
        with _timed(resolved):
            definitions = await _read(remotes, catalogue, trusting[0], request, list(mine.values()), known)
    except _BlockedError as blocked:
        trace.ended(RULE, str(blocked))
        others = tuple(arrival for arrival in arrivals if bindings and arrival not in own)
        return Proposed(others, *blocked.refusal)
    kept = await _keep(db, definitions, now, new_id)
    trace.passed(RULE, f"{len(kept)} pipelines run with the configuration of commit {request.revision[:12]}")
    changed = [_changed(arrival, request, kept[arrival.pipeline_id]) for arrival in own if arrival.pipeline_id in kept]
    return Proposed((*(arrival for arrival in arrivals if arrival not in own), *changed))


@contextlib.contextmanager
def _timed(tell: Callable[[str, float], None]) -> Iterator[None]:
    started = trio.current_time()
    try:
        yield
    except _BlockedError as blocked:
        outcome = "fetch_error" if blocked.refusal == UNAVAILABLE else "invalid"
        tell(outcome, trio.current_time() - started)
        raise
    tell("ok", trio.current_time() - started)


async def _pipelines(db: Database, binding: asyncpg.Record, arrivals: Sequence[Arrival]) -> list[asyncpg.Record]:
    return await db.fetch(_SQL.definitions_of, binding["project_id"], [arrival.pipeline_id for arrival in arrivals])


async def _read(
    remotes: Remotes,
    catalogue: Catalogue,
    binding: asyncpg.Record,
    request: Request,
    rows: Sequence[asyncpg.Record],
    known: Mapping[str, Profile],
) -> dict[UUID, bytes]:
    """The definition of each pipeline, encoded. Raises _BlockedError."""
    repository = Repository(binding["provider"], binding["clone_url"], binding["project_id"], binding["auth_ref"])
    path = binding["config_path"]
    try:
        folder = await remotes.folder_at(repository, request.revision, path, timeout=WITHIN)
        files = await understood(folder, path, catalogue)
    except (folders.FolderMissingError, BrokenError) as error:
        raise _BlockedError(INVALID, str(error)) from None
    except git.GitError as error:
        raise _BlockedError(UNAVAILABLE, str(error)) from None
    brought = {file.pipeline.name: file.pipeline for file in files}
    found = {}
    for row in rows:
        if row["name"] not in brought:
            raise _BlockedError(INVALID, f"the request has no pipeline {row['name']!r} any more")
        # The limits of runner profiles are nothing that a request could lift.
        merged, misfits = with_profiles(_merged(model.decode(row["definition"]), brought[row["name"]]), known)
        if misfits:
            raise _BlockedError(INVALID, misfits[0])
        if (jobs := sum(len(job.instances) or 1 for job in merged.jobs)) > MAX_JOBS:
            raise _BlockedError(INVALID, f"pipeline {row['name']!r} would have {jobs} jobs, more than {MAX_JOBS}")
        if not merged.stages:
            raise _BlockedError(INVALID, f"pipeline {row['name']!r} would have no stages")
        found[row["id"]] = model.encode(merged)
    return found


def _merged(base: Pipeline, brought: Pipeline) -> Pipeline:
    """The project's pipeline with what a request may change of it."""
    return msgspec.structs.replace(
        base,
        stages=brought.stages,
        jobs=brought.jobs,
        services=tuple(_unplaced(service) for service in brought.services),
        variables=brought.variables,
    )


def _unplaced(service: Service) -> Service:
    """Where a service runs is for the project to say."""
    return msgspec.structs.replace(service, node_selector={}, tolerations=())


async def _keep(
    db: Database, definitions: dict[UUID, bytes], now: datetime, new_id: Callable[[], UUID]
) -> dict[UUID, asyncpg.Record]:
    """Stores definitions, each once; by pipeline. One that was deleted at this moment is left out."""
    rows = await db.fetch(
        _SQL.keep_proposed,
        [new_id() for _ in definitions],
        list(definitions),
        [hashlib.sha256(definition).hexdigest() for definition in definitions.values()],
        [definition.decode() for definition in definitions.values()],
        now,
    )
    return {row["pipeline_id"]: row for row in rows}


def _changed(arrival: Arrival, request: Request, row: asyncpg.Record) -> Arrival:
    more = {"config_source": "pr_head", "config_revision": request.revision, "config_digest": row["digest"]}
    return replace(arrival, definition_id=row["id"], detail={**arrival.detail, **more})
