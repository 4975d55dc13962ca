"""What became of attempts that were taken back from their agents, in the words of the figures (contract-runs 10.1). Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from uuid import UUID

from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.runs.state import CANCELED, FAILED, QUEUED, Run

STALE, REGISTER, FORGOTTEN = "stale", "register_fence", "forgotten"
"""Why: the agent is silent; it registered again; its session knows nothing of the attempt (ours, beside the two)."""
REQUEUED, CAPPED, UNSAFE, STOPPED = "requeued", "failed_capped", "failed_unsafe_target", "canceled"
SKIPPED, ERROR, SUCCESS = "skipped", "error", "success"


def fate(before: Run, after: Run, job_id: UUID) -> str:
    """What the loss of its agent did to a job; SKIPPED when the attempt was over already."""
    was, now = before.job(job_id), after.job(job_id)
    if was is None or now is None or now is was:
        return SKIPPED
    if now.status == FAILED:
        return UNSAFE if was.retry_unsafe else CAPPED
    return {QUEUED: REQUEUED, CANCELED: STOPPED}.get(now.status, SKIPPED)


@contextlib.contextmanager
def swept(tell: Callable[[str], None]) -> Iterator[None]:
    """Counts a pass: ERROR when the database went away in it, else SUCCESS."""
    try:
        yield
    except DatabaseUnavailableError:
        tell(ERROR)
        raise
    tell(SUCCESS)
