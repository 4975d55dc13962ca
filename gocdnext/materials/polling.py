"""Polling: repositories are asked for the heads of their branches, and a head that is new starts runs.

Contract-admin 10 and design 9, decision 12: only a modification that nobody knew makes a run. A repository is asked once
for all its materials on all servers, as often as the most impatient of them wants, more rarely while it does not answer.
Nothing here holds a database connection while a repository is asked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog
import trio

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database, DatabaseUnavailableError
from gocdnext.materials import git
from gocdnext.materials.arrivals import Arrival, Started, start_runs
from gocdnext.materials.remotes import AskHeads, ask_heads
from gocdnext.materials.together import in_one_transaction
from gocdnext.runs.crowd import Create
from gocdnext.runs.service import RunService

BATCH = 500
"""Repositories that one pass asks at most: those that wait longest; the rest waits for the next pass."""
ANSWER_WITHIN = 20.0
"""Seconds that a repository gets to answer."""
AT_ONCE = 16
"""Repositories that are asked at the same time."""
MAX_JITTER = 0.1
"""The largest part of its interval by which a repository is asked earlier."""
MAX_BACK_OFF = timedelta(hours=1)
"""The longest pause that failures make, where the interval itself is shorter."""
CLOCKS_APART = timedelta(minutes=1)
"""How far the clocks of two servers may be apart without one of them asking what the other has just asked."""
FORGOTTEN_AFTER = timedelta(days=3)
CAUSE = "poll"

_SQL = queries.load("polling")
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Material:
    id: UUID
    pipeline_id: UUID
    project_id: UUID
    branch: str
    interval_ns: int
    provider: str
    head: str | None
    """What was found there last."""


@dataclass(slots=True)
class _Repository:
    url: str
    failures: int
    materials: list[_Material] = field(default_factory=list)


@dataclass(slots=True)
class Looked:
    """What a look at repositories found."""

    materials: int = 0
    runs: list[UUID] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Why heads of materials are not known, or start no run."""


def due_at(asked_at: datetime, seconds: float, failures: int, jitter: float) -> datetime:
    """When a repository is asked again that was asked at `asked_at` and has failed `failures` times in a row.

    Each failure doubles the interval, up to MAX_BACK_OFF. `jitter` is the part of the interval by which it is earlier.
    """
    interval = timedelta(seconds=seconds)
    pause = min(interval * (1 << min(failures, 10)), max(interval, MAX_BACK_OFF))
    return asked_at + pause * (1 - jitter)


async def poll(
    db: Database,
    runs: RunService,
    *,
    clock: Callable[[], datetime],
    draw: Callable[[], float],
    ask: AskHeads = ask_heads,
) -> int:
    """One pass over the repositories that are due; how many runs it started. `draw` gives numbers from 0 up to 1.

    Raises DatabaseUnavailableError. While another server takes repositories, this one leaves them to it.
    """
    repositories = await db.transaction(functools.partial(_take, clock(), draw))
    return len((await _ask_all(db, runs, repositories, clock, ask, settle=True)).runs)


async def look_now(
    db: Database, runs: RunService, slug: str, *, clock: Callable[[], datetime], ask: AskHeads = ask_heads
) -> Looked:
    """Asks for the heads of all git materials of a project now, polled or not (contract-runs 2.5); what fails is told.
    Raises DatabaseUnavailableError."""
    repositories: dict[str, _Repository] = {}
    for row in await db.fetch(_SQL.materials_of_project, slug):
        repository = repositories.setdefault(row["url"], _Repository(row["url"], 0))
        repository.materials.append(_material(row))
    return await _ask_all(db, runs, list(repositories.values()), clock, ask, settle=False)


async def _ask_all(
    db: Database,
    runs: RunService,
    repositories: Sequence[_Repository],
    clock: Callable[[], datetime],
    ask: AskHeads,
    *,
    settle: bool,
) -> Looked:
    """Asks several repositories at a time; with `settle` it is noted how often each has not answered."""
    waiting = iter(repositories)
    looked = Looked()
    away: DatabaseUnavailableError | None = None

    async def work() -> None:
        nonlocal away
        try:
            for repository in waiting:
                await _ask(db, runs, repository, clock, ask, looked, settle)
        except DatabaseUnavailableError as error:
            away = error
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(min(AT_ONCE, len(repositories))):
            nursery.start_soon(work)
    if away is not None:
        raise away
    return looked


async def _take(now: datetime, draw: Callable[[], float], conn: Connection) -> list[_Repository]:
    """The repositories that are due, with their materials; they count as asked from here on. Asyncio side."""
    if not await conn.fetchval(_SQL.try_poll_lock):
        return []
    due: dict[str, _Repository] = {}
    for row in await conn.fetch(_SQL.polled_repositories):
        asked_at, failures = row["asked_at"], row["failures"] or 0
        # Asked well in the future: the clock was set back.
        ahead = asked_at is not None and asked_at > now + CLOCKS_APART
        if asked_at is None or ahead or due_at(asked_at, row["seconds"], failures, row["jitter"]) <= now:
            due[row["url"]] = _Repository(row["url"], failures)
        if len(due) == BATCH:
            break
    if not due:
        return []
    await conn.execute(_SQL.take_repositories, list(due), [draw() * MAX_JITTER for _ in due], now)
    await conn.execute(_SQL.forget_repositories, now - FORGOTTEN_AFTER)
    for row in await conn.fetch(_SQL.polled_materials, list(due)):
        due[row["url"]].materials.append(_material(row))
    return [repository for repository in due.values() if repository.materials]


def _material(row: asyncpg.Record) -> _Material:
    return _Material(
        row["id"],
        row["pipeline_id"],
        row["project_id"],
        row["branch"],
        row["interval_ns"],
        row["provider"],
        row["last_head_sha"],
    )


async def _ask(
    db: Database,
    runs: RunService,
    repository: _Repository,
    clock: Callable[[], datetime],
    ask: AskHeads,
    looked: Looked,
    settle: bool,
) -> None:
    """Asks one repository, records what it said and adds it to `looked`."""
    failure = ""
    heads: dict[str, str] = {}
    unreadable = {branch: text for branch in _branches(repository) if (text := _trouble(branch))}
    wanted = _branches(repository) - unreadable.keys()
    shown = git.without_credentials(repository.url)
    try:
        projects = dict.fromkeys(material.project_id for material in repository.materials)
        heads = await ask(repository.url, wanted, *projects, timeout=ANSWER_WITHIN)
    except git.GitError as error:
        failure = str(error)
        _LOG.warning("a repository cannot be polled", url=shown, reason=failure, failures=repository.failures + 1)
        looked.errors.append(f"{shown}: {failure}")
    if settle and (failure or repository.failures):
        await db.execute(_SQL.settle_repository, repository.url, repository.failures + 1 if failure else 0)
    now = clock()
    as_before: list[tuple[UUID, str | None, str | None]] = []
    for material in repository.materials:
        looked.materials += 1
        head = heads.get(material.branch)
        if head is None:
            missing = unreadable.get(material.branch) or f"the repository has no branch {material.branch!r}"
            if not failure:
                looked.errors.append(f"{shown}: {missing}")
            as_before.append((material.id, None, unreadable.get(material.branch) or failure or missing))
        elif head == material.head:
            as_before.append((material.id, head, None))
        else:
            await _found(runs, material, head, now, looked)
    await _record(db, as_before, now)


def _branches(repository: _Repository) -> set[str]:
    return {material.branch for material in repository.materials}


def _trouble(branch: str) -> str:
    """Why a branch cannot be asked for: one bad name must not hide the other branches of its repository."""
    try:
        git.check_branch(branch)
    except git.GitError as error:
        return str(error)
    return ""


async def _found(runs: RunService, material: _Material, head: str, now: datetime, looked: Looked) -> None:
    """A head that was not there the last time: a run, unless somebody knew it before."""
    arrival = _arrival(material, head, now)
    started = await in_one_transaction(runs, functools.partial(_start, arrival, now))
    looked.runs += [run.run_id for _, run in started.runs]
    for _, reason in started.refused:
        looked.errors.append(f"a new head starts no run: {reason}")
        _LOG.warning("a new head starts no run", material=str(material.id), reason=reason)


def _arrival(material: _Material, head: str, now: datetime) -> Arrival:
    return Arrival(
        pipeline_id=material.pipeline_id,
        material_id=material.id,
        revision=head,
        branch=material.branch,
        cause=CAUSE,
        triggered_by=CAUSE,
        detail={
            "provider": material.provider,
            "delivery": f"poll:{int(now.timestamp())}",
            "poll_interval_ns": material.interval_ns,
            "polled_at": now.isoformat(),
            "prev_sha": material.head or "",
        },
        author=CAUSE,
        message=f"poll found {material.branch} at {head[:7]}",
    )


async def _start(arrival: Arrival, now: datetime, conn: Connection, create: Create) -> Started:
    """Asyncio side: the modification, its run and what the next poll has to know, together or not at all."""
    if await conn.fetchval(_SQL.hold_pipeline, arrival.pipeline_id) is None:
        return Started()
    started = await start_runs(conn, create, [arrival], now, only_new=True)
    await conn.execute(_SQL.record_polls, [arrival.material_id], [arrival.revision], [None], now)
    return started


async def _record(db: Database, rows: Sequence[tuple[UUID, str | None, str | None]], now: datetime) -> None:
    if rows:
        await db.execute(_SQL.record_polls, *map(list, zip(*rows, strict=True)), now)
