"""Why the open runs of an answer wait: for all of a page at once, within a bound. The reasons are `runs.waiting`'s.

They explain and never fail an answer: where they cannot be found it goes without them, which is counted (contract-runs 3.3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import structlog

from gocdnext.api.context import services
from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.runs.waiting import Reasons

_log = structlog.get_logger("api")
MAX_JOBS = 2000
"""Jobs of the runs of a page that are looked at together. A run that does not fit any more is listed without a reason;
its detail has it."""


class Explained(NamedTuple):
    """The reasons by run. What was explained follows from more than the database, so the answer does not last."""

    by_run: dict[UUID, Reasons]
    lasts: bool


async def reasons_of(runs: Iterable[tuple[UUID | None, int | None]], surface: str) -> Explained:
    """The reasons of those of these runs that are open. Of each its id and, where it is open, the number of its jobs. One
    statement; none without an open run."""
    left, chosen = MAX_JOBS, set[UUID]()
    for run_id, jobs in runs:
        if run_id is None or jobs is None or run_id in chosen or jobs > left:
            continue
        chosen.add(run_id)
        left -= jobs
    return await reasons(chosen, surface)


async def reasons(run_ids: Collection[UUID], surface: str) -> Explained:
    """The reasons of open runs, shown on `surface` (`run_detail`, `project_detail`, `feed`, `vsm`)."""
    try:
        return Explained(await services().runs.reasons(run_ids), lasts=not run_ids)
    except (DatabaseUnavailableError, asyncpg.PostgresError) as error:
        return _unexplained(surface, "lookup", error)
    except msgspec.DecodeError as error:
        return _unexplained(surface, "decode", error)


def _unexplained(surface: str, kind: str, error: Exception) -> Explained:
    services().metrics.annotation_failed(surface, kind)
    _log.warning("runs are shown without what they wait for", surface=surface, error=str(error))
    return Explained({}, lasts=False)
