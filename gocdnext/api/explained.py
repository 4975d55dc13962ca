"""Why the open runs of a list wait: for all of a page at once, within a bound. The reasons are `runs.waiting`'s."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import asyncpg

from gocdnext.api.context import services
from gocdnext.runs.waiting import Reasons

MAX_JOBS = 2000
"""Jobs of the runs of a page that are looked at together. A run that does not fit any more is listed without a reason;
its detail has it."""


async def reasons_of(runs: Iterable[tuple[UUID | None, asyncpg.Record]]) -> dict[UUID, Reasons]:
    """The reasons of those of these runs (id and row with `open_jobs`) that are open. One statement; none without one."""
    left, chosen = MAX_JOBS, set[UUID]()
    for run_id, row in runs:
        if run_id is None or row["open_jobs"] is None or run_id in chosen or row["open_jobs"] > left:
            continue
        chosen.add(run_id)
        left -= row["open_jobs"]
    return await services().runs.reasons(chosen)
