"""The log windows of the run detail wherever the lines are: in the table, or in blobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog

from gocdnext.logs.archived import Archives
from gocdnext.logs.windows import MAX_LINES, Window, windows

_log = structlog.get_logger(__name__)


async def archived_windows(
    archives: Archives,
    job_ids: Sequence[UUID],
    *,
    tail: int,
    head: int = 0,
    since: Mapping[UUID, int] | None = None,
) -> dict[UUID, Window]:
    """`windows`, also of logs that are archived. One whose blob cannot be read is shown as empty, and that is logged."""
    found = await windows(archives.db, job_ids, tail=tail, head=head, since=since)
    # In this order: a log that is archived in between is found in one of the two places.
    empty = [job_id for job_id, window in found.items() if not window.total]
    if not empty:
        return found
    for job_id, archived in (await archives.find(empty)).items():
        try:
            found[job_id] = await archived.window(
                tail=min(tail, MAX_LINES), head=min(head, MAX_LINES), since=(since or {}).get(job_id)
            )
        except OSError as error:
            _log.error("an archived log cannot be read", job_id=str(job_id), error=str(error))
    return found
