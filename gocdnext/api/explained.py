"""Why the open runs of a list wait: for all of a page at once, within a bound. The reasons are `runs.waiting`'s."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from gocdnext.api.context import services
from gocdnext.runs.waiting import Reasons

MAX_JOBS = 2000
"""Jobs of the runs of a page that are looked at together. A run that does not fit any more is listed without a reason;
its detail has it."""


async def reasons_of(runs: Iterable[tuple[UUID | None, int | None]]) -> dict[UUID, Reasons]:
    """The reasons of those of these runs that are open. Of each its id and, where it is open, the number of its jobs. One
    statement; none without an open run."""
    left, chosen = MAX_JOBS, set[UUID]()
    for run_id, jobs in runs:
        if run_id is None or jobs is None or run_id in chosen or jobs > left:
            continue
        chosen.add(run_id)
        left -= jobs
    return await services().runs.reasons(chosen)
