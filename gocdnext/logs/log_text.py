"""A job's whole log as plain text (contract-runs 3.5), read page by page so that its size does not matter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

from gocdnext.db import queries
from gocdnext.logs.archived import Archives

PAGE_LINES = 1000

_SQL = queries.load("logs")
_BEFORE_ALL = (-(2**63), datetime(1, 1, 1, tzinfo=UTC))


async def log_text(archives: Archives, job_id: UUID) -> AsyncIterator[bytes]:
    """Every line in seq order followed by a line feed, in pieces; also what is archived, be it while this is going on. Holds
    no connection between two pieces.

    Raises DatabaseUnavailableError and OSError, also half-way: the body is cut short then.
    """
    seq, at = _BEFORE_ALL
    while True:
        page = await archives.db.fetch(_SQL.text_after, job_id, seq, at, PAGE_LINES)
        if page:
            yield "".join(f"{row['text']}\n" for row in page).encode()
            seq, at = page[-1]["seq"], page[-1]["at"]
        if len(page) < PAGE_LINES:
            break
    for archived in (await archives.find([job_id])).values():
        async for lines in archived.after(seq, at):
            yield "".join(f"{line.text}\n" for line in lines).encode()
