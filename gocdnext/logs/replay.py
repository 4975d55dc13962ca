"""Archived lines in the order of the stream, for readers that come back after the log was archived (contract-runs 3.4).

The lines of a job are archived in the order of their numbers; beside them is kept which stretches of the run's cursors they
had, so that a reader gets the lines of all jobs as if they were still in the table.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

import structlog

from gocdnext.db import queries
from gocdnext.logs.archived import Archived, Archives
from gocdnext.logs.frames import Line

MAX_LINES = 500
"""Lines of a page."""
MAX_BYTES = 64 * 1024
"""About so many bytes of text of a page; one line may be longer."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SQL = queries.load("log_archives")
_log = structlog.get_logger(__name__)


class Page(NamedTuple):
    """Lines in order; there are no others up to and with cursor `last`."""

    lines: list[Line]
    last: int


class _Stretch(NamedTuple):
    """Lines of a job whose cursors are neighbours."""

    first: int
    """The cursor of the first."""
    start: int
    """Lines of the job before it."""
    length: int


@dataclass(frozen=True, slots=True)
class _Job:
    archived: Archived
    stretches: list[_Stretch]


class Replay:
    """The archived lines of one run, for one reader."""

    def __init__(self, archives: Archives, run_id: UUID) -> None:
        self._archives = archives
        self._run_id = run_id
        self._jobs: dict[UUID, _Job] = {}

    async def between(self, after: int, upto: int) -> Page:
        """A page of the lines with cursors in (after, upto]. What cannot be read is logged and left out.

        Raises DatabaseUnavailableError.
        """
        await self._look()
        lines, last = [], upto
        for job_id, job in self._jobs.items():
            try:
                page = await _of_job(job_id, job, after, upto)
            except OSError as error:
                _log.error("an archived log cannot be read", job=str(job_id), error=str(error))
                continue
            lines += page.lines
            last = min(last, page.last)
        return _cut(sorted(line for line in lines if line.cursor <= last), last)

    async def _look(self) -> None:
        """What is archived now: jobs end up here, and leave it when they are repeated."""
        jobs = {}
        for job_id, archived in (await self._archives.of_run(self._run_id)).items():
            known = self._jobs.get(job_id)
            jobs[job_id] = known if known and known.archived.key == archived.key else await self._opened(archived)
        self._jobs = jobs

    async def _opened(self, archived: Archived) -> _Job:
        row = await self._archives.db.fetchrow(_SQL.cursors, archived.key)
        if row is None or not row["cursors"]:
            return _Job(archived, [])  # gone by now, or archived before cursors were kept
        starts = [*row["cursor_lines"], archived.index.lines]
        lengths = [stop - start for start, stop in pairwise(starts)]
        return _Job(archived, sorted(map(_Stretch, row["cursors"], starts, lengths)))


async def _of_job(job_id: UUID, job: _Job, after: int, upto: int) -> Page:
    """See `Replay.between`. Raises OSError."""
    lines: list[Line] = []
    size, text = 0, str(job_id)
    begin = max(0, bisect_right(job.stretches, after, key=lambda one: one.first) - 1)
    for first, start, length in job.stretches[begin:]:
        if first > upto:
            break
        skipped = max(0, after + 1 - first)
        wanted = min(length, upto + 1 - first, skipped + MAX_LINES - len(lines)) - skipped
        for number, line in enumerate(await job.archived.lines(start + skipped, wanted), first + skipped):
            lines.append(
                Line(number, text, line.seq, (line.at - _EPOCH) // timedelta(microseconds=1), line.stream, line.text)
            )
            size += len(line.text)
            if len(lines) >= MAX_LINES or size >= MAX_BYTES:
                return Page(lines, number)
    return Page(lines, upto)


def _cut(lines: list[Line], last: int) -> Page:
    """No more than a page of what several jobs have given."""
    size = 0
    for number, line in enumerate(lines, 1):
        size += len(line.text)
        if number >= MAX_LINES or size >= MAX_BYTES:
            return Page(lines[:number], line.cursor)
    return Page(lines, last)
