"""What can be done with runs: the wishes of people, the reports of agents, the sweeps of the server.

Each is an event on one run (`events`), carried out by `changes`. No rule is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

import trio

from gocdnext import audit
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database, DatabaseUnavailableError
from gocdnext.durations import format_duration
from gocdnext.errors import ConflictError, DomainError, ForbiddenError, NotFoundError, UnprocessableError
from gocdnext.runs import events, reclaiming, told, waiting
from gocdnext.runs.changes import Changes
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.crowd import Create
from gocdnext.runs.ports import Fleet, Observer, RunningJob, Secrets, Wanted
from gocdnext.runs.replay import replay
from gocdnext.runs.settling import Done
from gocdnext.runs.state import OPEN, RUNNING
from gocdnext.runs.waiting import Reasons
from gocdnext.tracing import doing

_SQL = queries.load("runs")
T = TypeVar("T")
STALE_AFTER = timedelta(seconds=90)
"""An agent that was not heard of for so long has lost its jobs (spec-execution 14)."""
LEASE_LAG = timedelta(seconds=15)
"""How much later than the database an agent with a lease may know that it was heard of: a heartbeat and the pause
between two writes. Nobody gets its jobs before its own clock has told it to stop them."""
_REFUSALS: dict[str, type[DomainError]] = {
    "not_found": NotFoundError,
    "forbidden": ForbiddenError,
    "conflict": ConflictError,
    "unprocessable": UnprocessableError,
}
REAP_BATCH = 500
EXPIRY_BATCH = 50
"""Runs that one sweep of gates cancels at most."""
TIMEOUT_GRACE = 60
"""Seconds that an agent gets to end a job by itself before the server does."""
MAX_ERROR = 16 * 1024
"""Characters of a job's error text that are kept."""


@dataclass(frozen=True, slots=True)
class JobReport:
    """How an agent says an attempt ended. `status` is success, failed, disrupted or canceled (= failed)."""

    run_id: UUID
    job_id: UUID
    agent_id: UUID
    attempt: int
    status: str
    exit_code: int = 0
    error: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldJob:
    """An attempt that goes on at an agent that came back; `cancel` when somebody wants it to stop."""

    run_id: UUID
    job_id: UUID
    attempt: int
    cancel: bool


@dataclass(frozen=True, slots=True)
class CancelledJob:
    """The answer of a job cancel (contract-runs 4.1): `status` is canceled or canceling."""

    job_run_id: UUID
    run_id: UUID
    job_name: str
    status: str
    signaled: bool


@dataclass(frozen=True, slots=True)
class RerunJob:
    """A job that runs again: the same row, its next attempt."""

    run_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """The answer of an approve or reject (contract-runs 4.3)."""

    job_run_id: UUID
    run_id: UUID
    stage_completed: bool
    stage_status: str
    run_completed: bool
    run_status: str
    pending_quorum: bool
    approvals_now: int
    approvals_required: int


def event_of(report: JobReport) -> events.Event:
    """What a report is to the run: an end, or the loss of the agent's machine."""
    if report.status == "disrupted":
        reason = "the agent's machine was taken away before completion"
        return events.AgentLost(report.job_id, report.agent_id, report.attempt, reason)
    return events.JobReported(
        report.job_id,
        report.agent_id,
        report.attempt,
        report.status == "success",
        report.exit_code,
        _clean(report.error),
        {key: _clean(value) for key, value in report.outputs.items()},
    )


class RunService:
    """All changes of runs. Trio side; every method may raise DatabaseUnavailableError."""

    def __init__(
        self,
        db: Database,
        fleet: Fleet,
        observer: Observer,
        *,
        secrets: Secrets,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db = db
        self._fleet = fleet
        self._observer = observer
        self._clock = clock
        self._new_id = new_id
        self._changes = Changes(db, fleet, observer, secrets=secrets, clock=clock, new_id=new_id)

    async def create(self, new: NewRun) -> CreatedRun:
        """A new queued run. Raises NotFoundError (no such pipeline), UnprocessableError (no stages)."""
        with doing("run.create", pipeline_id=new.pipeline_id, cause=new.cause) as here:
            made = await self._changes.new.create(new)
            here.learned(run_id=made.run_id)
            return made

    async def create_in(self, work: Callable[[Connection, Create], Awaitable[T]], *, kind: Hashable = None) -> T:
        """`work` in one transaction (asyncio side), with a function that makes runs in it: what started them and the runs
        are kept together or not at all."""
        with doing("run.create"):
            return await self._changes.new.create_in(work, kind=kind)

    async def complete(self, report: JobReport) -> bool:
        """Stores a result; False when it is late or repeated and changed nothing."""
        free = self._fleet.freed(report.agent_id, report.job_id)
        with doing("job.complete", run_id=report.run_id, job_id=report.job_id, status=report.status):
            try:
                done = await self._changes.apply(report.run_id, event_of(report), free=free)
            except NotFoundError:
                return False
        if report.status == "disrupted" and done.changed:
            outcome = reclaiming.fate(done.before, done.outcome.run, report.job_id)
            self._observer.figures.job_disrupted(outcome)
        return done.changed

    async def complete_at_once(self, report: JobReport) -> bool:
        """`complete` on the asyncio side, for what can be stored without waiting for others; False: `complete` it."""
        if report.status == "disrupted":
            return False  # what becomes of its job is counted there
        free = self._fleet.freed(report.agent_id, report.job_id)
        with doing("job.complete", run_id=report.run_id, job_id=report.job_id, status=report.status):
            return await self._changes.apply_at_once(report.run_id, event_of(report), free=free)

    async def cancel_run(self, run_id: UUID) -> int:
        """Cancels an open run; the number of agents' jobs told to stop. Raises NotFoundError, ConflictError."""
        return (await self._wish(run_id, events.RunCancelRequested())).signaled

    async def cancel_job(self, job_id: UUID) -> CancelledJob:
        """Cancels a queued or running job. Raises NotFoundError, ConflictError."""
        run_id = await self._run_of(job_id, "job_run not found")
        done = await self._wish(run_id, events.JobCancelRequested(job_id))
        job = done.before.job(job_id)
        assert job is not None
        status = "canceling" if job.status == RUNNING else "canceled"
        return CancelledJob(job_id, run_id, job.name, status, done.signaled > 0)

    async def vote(self, job_id: UUID, voter: events.Voter, *, approve: bool, comment: str = "") -> GateAnswer:
        """An approval or rejection of a gate (contract-runs 4.3). Raises NotFoundError, ForbiddenError, ConflictError,
        UnprocessableError."""
        run_id = await self._run_of(job_id, "approval gate not found")
        done = await self._wish(run_id, events.GateVoted(job_id, voter, approve, comment))
        return _gate_answer(done, job_id)

    async def rerun_job(self, job_id: UUID, *, rollback: bool = False) -> RerunJob:
        """Runs a finished job again. Raises NotFoundError, ConflictError."""
        run_id = await self._run_of(job_id, "job_run not found")
        done = await self._wish(run_id, events.JobRerunRequested(job_id, rollback))
        job = done.outcome.run.job(job_id)
        assert job is not None
        return RerunJob(run_id, job.attempt)

    async def rerun(self, run_id: UUID, triggered_by: str = "") -> CreatedRun:
        """A new run of the pipeline's current definition with all revisions of a finished one (contract-runs 3.10).

        Raises NotFoundError, ConflictError (still active), UnprocessableError (nothing to replay).
        """
        run = await self._changes.read(run_id)
        if run is None:
            raise NotFoundError("run not found")
        return await self.create(replay(run, triggered_by))

    async def rerun_once(
        self, run_id: UUID, triggered_by: str, claim: Callable[[Connection], Awaitable[bool]]
    ) -> CreatedRun | None:
        """`rerun`, if `claim` (asyncio side, in the transaction that makes the run) says that it is to be; else None."""
        run = await self._changes.read(run_id)
        if run is None:
            raise NotFoundError("run not found")
        new = replay(run, triggered_by)

        async def work(conn: Connection, create: Create) -> CreatedRun | None:
            return await create(new) if await claim(conn) else None

        return await self.create_in(work)

    async def reasons(self, run_ids: Collection[UUID]) -> dict[UUID, Reasons]:
        """Why runs and their jobs wait, from the function that decides; one statement. A run that is gone is left out."""
        if not run_ids:
            return {}
        found = {}
        for run_id, run in (await self._changes.read_many(run_ids)).items():
            found[run_id] = waiting.reasons(run, self._fleet.slots())
            await trio.lowlevel.checkpoint()  # nobody else waits for the whole page
        return found

    async def reclaim(self, agent_id: UUID) -> None:
        """An agent registered again: what it had been given is repeated, cancelled or failed (spec-execution 14).

        A job with a cancel stamp ends here too: the agent has nothing any more and would never report it.
        """
        with self._sweep(reclaiming.REGISTER):
            for row in await self._db.fetch(_SQL.running_jobs_of_agent, agent_id):
                event = _lost(row["id"], agent_id, row["attempt"], "agent re-registered")
                await self._take_back(row["run_id"], event, reclaiming.REGISTER)

    async def resume(self, agent_id: UUID, has: Collection[tuple[UUID, int]]) -> list[HeldJob]:
        """The same agent process is back after a break and has these attempts (job id, attempt); those that are still
        its own. A job that it was given and does not have never reached it and is given out again.
        """
        kept = []
        for row in await self._db.fetch(_SQL.running_jobs_of_agent, agent_id):
            run_id, job_id, attempt = row["run_id"], row["id"], row["attempt"]
            if (job_id, attempt) in has:
                kept.append(HeldJob(run_id, job_id, attempt, row["cancel_requested"]))
            else:
                event = _lost(job_id, agent_id, attempt, "assignment lost", began=False)
                await self._take_back(run_id, event, reclaiming.REGISTER)
        return kept

    async def running(self, agent_ids: Collection[UUID]) -> list[tuple[UUID, UUID, UUID, int]]:
        """(agent id, run id, job id, attempt) of everything that these agents were given and have not ended."""
        rows = await self._db.fetch(_SQL.running_jobs_of_agents, list(agent_ids))
        return [(row["agent_id"], row["run_id"], row["id"], row["attempt"]) for row in rows]

    async def forgotten(self, agent_id: UUID, run_id: UUID, job_id: UUID, attempt: int) -> None:
        """An attempt that is running by the book and that the agent's session knows nothing of: it is taken back."""
        event = _lost(job_id, agent_id, attempt, "agent without the job")
        await self._take_back(run_id, event, reclaiming.FORGOTTEN)

    async def pending_cancels(self, agent_id: UUID) -> list[tuple[UUID, UUID]]:
        """(run id, job id) of the agent's running jobs that somebody cancelled."""
        rows = await self._db.fetch(_SQL.running_jobs_of_agent, agent_id)
        return [(row["run_id"], row["id"]) for row in rows if row["cancel_requested"]]

    async def forsake(self, jobs: Sequence[RunningJob]) -> int:
        """Tells agents to stop jobs whose rows are gone; what they still report of them changes nothing. How many have a
        session in this process."""
        elsewhere = [
            job for job in jobs if not self._fleet.cancel(job.agent_id, job.run_id, job.job_id, "the run was deleted")
        ]
        if elsewhere:
            ids = [(job.agent_id, job.run_id, job.job_id) for job in elsewhere]
            await self._db.execute(_SQL.notify_stop_job, *map(list, zip(*ids, strict=True)))
        return len(jobs) - len(elsewhere)

    async def reap(self) -> int:
        """One pass over running jobs whose agent is gone or silent; how many were taken back."""
        with self._sweep(reclaiming.STALE):
            rows = await self._db.fetch(_SQL.stale_jobs, self._clock(), STALE_AFTER, LEASE_LAG, REAP_BATCH)
            for row in rows:
                event = _lost(row["id"], row["agent_id"], row["attempt"], "agent lost")
                await self._take_back(row["run_id"], event, reclaiming.STALE)
        return len(rows)

    async def release(self, run_id: UUID, environment: str) -> None:
        """A freeze that may have held this run has ended."""
        await self._quietly(run_id, events.EnvironmentReleased(environment))

    async def end_overdue(self) -> int:
        """One pass over running jobs past their `timeout` that their agents did not end; how many were ended."""
        rows = await self._db.fetch(_SQL.overdue_jobs, self._clock(), TIMEOUT_GRACE, REAP_BATCH)
        for row in rows:
            limit = format_duration(row["timeout_seconds"])
            event = events.JobTimedOut(row["id"], row["attempt"], f"timed out after {limit}")
            await self._quietly(row["run_id"], event)
        return len(rows)

    async def expire_gates(self, default_seconds: int | None) -> int:
        """One pass over gates that nobody decided in time; how many were looked at (spec-execution 8)."""
        rows = await self._db.fetch(_SQL.expired_gates, self._clock(), default_seconds, EXPIRY_BATCH)
        for row in rows:
            await self._expire(row["run_id"], row["job_run_id"], row["awaiting_since"], row["window_seconds"])
        return len(rows)

    async def dispatch(self, run_id: UUID) -> Wanted:
        """One pass over a run; the tags of its jobs that could run and have no slot here."""
        with doing("run.dispatch", run_id=run_id):
            try:
                return frozenset((await self._changes.dispatch(run_id, self._fleet.slots)).wanted)
            except NotFoundError:
                return frozenset()

    # ---- inside ------------------------------------------------------------------------------------

    async def _expire(self, run_id: UUID, job_id: UUID, since: datetime, window: int) -> None:
        """Cancels a run whose gate was not decided within `window` seconds, and says so."""
        try:
            with doing("gate.expire", run_id=run_id, job_id=job_id):
                done = await self._changes.apply(run_id, events.GateExpired(job_id, since, format_duration(window)))
        except NotFoundError:
            return
        if done.changed:
            self._observer.figures.approval_expired()
            event = told.expired(done.before, job_id, window, since, self._clock(), self._new_id)
            await audit.record(self._db, event)

    async def _run_of(self, job_id: UUID, missing: str) -> UUID:
        """The run of a job. Raises NotFoundError with the text `missing`."""
        run_id: UUID | None = await self._db.fetchval(_SQL.run_of_job, job_id)
        if run_id is None:
            raise NotFoundError(missing)
        return run_id

    def _sweep(self, reason: str) -> contextlib.AbstractContextManager[None]:
        """Counts a pass over attempts that are taken back."""
        return reclaiming.swept(partial(self._observer.figures.reclaim_swept, reason))

    async def _take_back(self, run_id: UUID, event: events.AgentLost, reason: str) -> None:
        """Takes an attempt from its agent, and counts what became of it."""
        tell = partial(self._observer.figures.job_reclaimed, reason)
        try:
            done = await self._changes.apply(run_id, event)
        except NotFoundError:
            tell(reclaiming.SKIPPED)
        except DatabaseUnavailableError:
            tell(reclaiming.ERROR)
            raise
        else:
            tell(reclaiming.fate(done.before, done.outcome.run, event.job_id))

    async def _quietly(self, run_id: UUID, event: events.Event) -> None:
        """A change that nobody waits for: a run that is gone by now needs none."""
        with contextlib.suppress(NotFoundError), doing("run.change", run_id=run_id, event_kind=type(event).__name__):
            await self._changes.apply(run_id, event)

    async def _wish(self, run_id: UUID, event: events.Event) -> Done:
        """A change that a person wants: a refusal is raised as the error that says so."""
        with doing("run.change", run_id=run_id, event_kind=type(event).__name__):
            done = await self._changes.apply(run_id, event)
        if done.outcome.refused is not None:
            raise _REFUSALS[done.outcome.refused.kind](done.outcome.refused.text)
        return done


def _gate_answer(done: Done, job_id: UUID) -> GateAnswer:
    before, run = done.before, done.outcome.run
    job = run.job(job_id)
    assert job is not None
    assert job.gate is not None
    stage = run.stage(job.stage_id)
    stage_done = stage.status not in OPEN and before.stage(stage.id).status in OPEN
    run_done = run.status not in OPEN and before.status in OPEN
    decided = job.gate.decision is not None
    return GateAnswer(
        job_run_id=job_id,
        run_id=run.id,
        stage_completed=stage_done,
        stage_status=stage.status if stage_done else "",
        run_completed=run_done,
        run_status=run.status if run_done else "",
        pending_quorum=not decided,
        approvals_now=job.gate.required if decided else job.gate.approvals,
        approvals_required=job.gate.required,
    )


def _lost(job_id: UUID, agent_id: UUID, attempt: int, reason: str, *, began: bool = True) -> events.AgentLost:
    return events.AgentLost(job_id, agent_id, attempt, f"{reason} before completion", began)


def _clean(text: str) -> str:
    """Bounded, and without what PostgreSQL cannot store."""
    return text.replace("\x00", "")[:MAX_ERROR]
