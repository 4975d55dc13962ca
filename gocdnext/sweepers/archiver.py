"""Archives the logs of ended jobs (contract-admin 11.1, 2 and 11.2). Two servers may: each log is archived by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import UUID

import structlog

from gocdnext.blobs.store import BlobStore
from gocdnext.db.pool import Database
from gocdnext.logs import archive
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 60.0
"""Seconds between two passes."""
ARCHIVED, FAILED, SKIPPED = "ArchivesReSubmitted", "ArchiveFailures", "ArchivesSkipped"
_log = structlog.get_logger("sweeper")


async def run(
    db: Database, store: BlobStore, policy: str, clock: Callable[[], datetime], new_id: Callable[[], UUID], board: Board
) -> None:
    """Archives until cancelled. `policy` is `auto`, `on` or `off`; `off` holds whatever a project says."""

    async def sweep() -> Mapping[str, int]:
        return {} if policy == "off" else await once(db, store, clock(), new_id)

    await every(EVERY, "log archive", sweep, board=board)


async def once(db: Database, store: BlobStore, now: datetime, new_id: Callable[[], UUID]) -> Counter[str]:
    """One pass. A log that cannot be archived keeps its lines, and nobody else waits for it."""
    done: Counter[str] = Counter()
    for job_id in await archive.candidates(db, True, now):
        try:
            archived = await archive.archive(db, store, job_id, name=new_id(), now=now)
        except OSError as error:
            _log.error("a log cannot be archived", job_id=str(job_id), error=str(error))
            done[FAILED] += 1
        else:
            done[ARCHIVED if archived else SKIPPED] += 1
    return done
