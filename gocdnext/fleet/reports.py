"""Reports beside logs and results: from messages to what is kept, or to a count of what is not (protocol-agent 2.5).

Nothing that an agent reports can end its session: what does not fit is counted by kind and reason and left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from gocdnext.db.pool import Database
from gocdnext.fleet.ports import FleetMetrics
from gocdnext.fleet.session import Held, Session
from gocdnext.proto import agent_pb2 as pb
from gocdnext.reports import coverage, services, testing

CLOCK_SKEW = timedelta(days=1)
"""An agent's time further off than this is replaced by the server's."""

Keep = Callable[[], Awaitable[None]]


class Reports:
    """Reports of all agents of this server. `keeping` gives the trio function that keeps a report."""

    def __init__(
        self, db: Database, metrics: FleetMetrics, *, clock: Callable[[], datetime], new_id: Callable[[], UUID]
    ) -> None:
        self._db = db
        self._metrics = metrics
        self._clock = clock
        self._new_id = new_id
        self._kinds: dict[str, Callable[[Session, Any], Callable[[], Awaitable[bool]] | str]] = {
            "test_results": self._tests,
            "coverage": self._coverage,
            "service_lifecycle": self._service,
            "cleanup_run_services_result": self._cleaned,
        }

    def keeping(self, session: Session, kind: str | None, message: pb.AgentMessage) -> Keep | None:
        """How to keep the report; None when it is no report or does not fit, which is counted then."""
        make = self._kinds.get(kind or "")
        if make is None or kind is None:
            return None
        keep = make(session, getattr(message, kind))
        if isinstance(keep, str):
            self.dropped(kind, keep)
            return None

        async def work() -> None:
            try:
                if not await keep():
                    self.dropped(kind, "stale")
            except asyncpg.DataError:
                self.dropped(kind, "invalid")

        return work

    def is_report(self, kind: str | None) -> bool:
        """Whether messages of this kind are taken here."""
        return kind in self._kinds

    def dropped(self, kind: str, reason: str) -> None:
        """Counts a report that is left out."""
        self._metrics.report_dropped(kind, reason)

    # One of these per kind: a trio function that says whether it was kept, or the reason why it cannot be.

    def _tests(self, session: Session, batch: pb.TestResultBatch) -> Callable[[], Awaitable[bool]] | str:
        held = session.owns(batch.run_id, batch.job_id)
        if held is None:
            return "not_held"
        if len(batch.results) > testing.MAX_CASES:
            self.dropped("test_results", "cut")
        cases = [_case(result) for result in batch.results[: testing.MAX_CASES]]
        attempt, now = _attempt(session, held), self._clock()
        return lambda: testing.replace(self._db, attempt, cases, now)

    def _coverage(self, session: Session, summary: pb.CoverageSummary) -> Callable[[], Awaitable[bool]] | str:
        held = session.owns(summary.run_id, summary.job_id)
        if held is None:
            return "not_held"
        whole = coverage.Lines(summary.lines_covered, summary.lines_total)
        if not whole.possible:
            return "invalid"
        packages = [coverage.Lines(p.lines_covered, p.lines_total, p.name) for p in summary.packages]
        attempt, now = _attempt(session, held), self._clock()
        return lambda: coverage.replace(self._db, attempt, summary.format, whole, packages, now)

    def _service(self, session: Session, said: pb.ServiceLifecycle) -> Callable[[], Awaitable[bool]] | str:
        run_id = _uuid(said.run_id)
        if run_id is None or session.superseded:
            return "invalid" if run_id is None else "not_held"
        change = services.Change(
            run_id=run_id,
            agent_id=session.agent_id,
            name=said.name,
            image=said.image,
            pod_name=said.pod_name,
            status=said.status,
            error=said.error,
            at=_time(said.at.seconds, said.at.nanos, self._clock()),
            holds_job=any(held.run_id == said.run_id for held in session.held.values()),
        )
        if not change.fits:
            return "invalid"
        return lambda: services.keep(self._db, self._new_id(), change)

    def _cleaned(self, session: Session, said: pb.CleanupRunServicesResult) -> Callable[[], Awaitable[bool]] | str:
        run_id = _uuid(said.run_id)
        generation = None if run_id is None else session.cleanups.pop(run_id, None)
        if run_id is None or generation is None:
            return "not_held"  # nobody asked this session
        if said.error_message:
            return "failed"  # it stays open: the next agent that registers is asked again

        async def done() -> bool:
            await services.cleaned(self._db, run_id, generation)
            return True

        return done


def _case(result: pb.TestResult) -> testing.Case:
    return testing.Case(
        result.suite,
        result.classname,
        result.name,
        result.status,
        result.duration_millis,
        result.failure_type,
        result.failure_message,
        result.failure_detail,
        result.system_out,
        result.system_err,
    ).cleaned()


def _attempt(session: Session, held: Held) -> testing.Attempt:
    return testing.Attempt(held.target.job_id, session.agent_id, held.target.attempt)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None


def _time(seconds: int, nanos: int, now: datetime) -> datetime:
    """The agent's time, or the server's when there is none or it cannot be."""
    offset = seconds - now.timestamp()
    if not seconds or abs(offset) > CLOCK_SKEW.total_seconds():
        return now
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=min(max(nanos // 1000, 0), 999_999))
