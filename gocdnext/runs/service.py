"""What can be done with runs: each call is one transaction on one run, then its effects.

The rules are in `transitions` and `dispatch`; this module loads, saves and carries out. Effects happen after the
commit, are immediate and may be lost with the process: the scheduler's tick and the reaper repair that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import ConflictError, NotFoundError
from gocdnext.runs import assignment, creation, dispatch, store, transitions
from gocdnext.runs.assignment import Assignment, AssignmentError
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.ports import Fleet, Slot
from gocdnext.runs.state import OPEN, QUEUED, RUNNING, Job, Run
from gocdnext.runs.transitions import Outcome

_SQL = queries.load("runs")
STALE_AFTER = timedelta(seconds=90)
"""An agent that was not heard of for so long has lost its jobs (spec-execution 14)."""
REAP_BATCH = 500
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
class CancelledJob:
    """The answer of a job cancel (contract-runs 4.1): `status` is canceled or canceling."""

    job_run_id: UUID
    run_id: UUID
    job_name: str
    status: str
    signaled: bool


class Observer(Protocol):
    """Who else wants to know: the scheduler is woken, figures are counted, readers of logs are told of the end."""

    def wake(self, run_id: UUID) -> None:
        """The run may have something to dispatch."""

    def job_started(self, run: Run, job: Job) -> None:
        """An attempt was put on the wire."""

    def job_ended(self, run: Run, job: Job) -> None:
        """An attempt ended."""

    def run_ended(self, run_id: UUID, status: str) -> None:
        """The run is finished."""

    def wake_pipeline(self, pipeline_id: UUID) -> None:
        """A serial pipeline's slot is free: the oldest run that waits for it may start."""


class RunService:
    """All changes of runs. Trio side; every method may raise DatabaseUnavailableError."""

    def __init__(
        self,
        db: Database,
        fleet: Fleet,
        observer: Observer,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db = db
        self._fleet = fleet
        self._observer = observer
        self._clock = clock
        self._new_id = new_id
        self._definitions = Definitions()

    async def create(self, new: NewRun) -> CreatedRun:
        """A new queued run. Raises NotFoundError (no such pipeline), UnprocessableError (no stages)."""
        created = await self._db.transaction(lambda conn: self.create_in(conn, new))
        self._observer.wake(created.run_id)
        return created

    async def create_in(self, conn: Connection, new: NewRun) -> CreatedRun:
        """`create` inside a transaction of the caller, who wakes the scheduler after its commit."""
        return await creation.create(conn, new, self._definitions, now=self._clock(), new_id=self._new_id)

    async def complete(self, report: JobReport) -> bool:
        """Stores a result; False when it is late or repeated and changed nothing."""
        event: transitions.Event
        if report.status == "disrupted":
            event = transitions.AgentLost(
                report.job_id, report.agent_id, report.attempt, "the agent's machine was taken away before completion"
            )
        else:
            event = transitions.JobReported(
                report.job_id,
                report.agent_id,
                report.attempt,
                report.status == "success",
                report.exit_code,
                _clean(report.error),
                {key: _clean(value) for key, value in report.outputs.items()},
            )
        try:
            return (await self._change(report.run_id, event)).changed
        except NotFoundError:
            return False

    async def cancel_run(self, run_id: UUID) -> int:
        """Cancels an open run; the number of agents' jobs told to stop. Raises NotFoundError, ConflictError."""
        done = await self._change(run_id, transitions.RunCancelRequested())
        if done.before.status not in OPEN:
            raise ConflictError("run already terminal")
        return done.signaled

    async def cancel_job(self, job_id: UUID) -> CancelledJob:
        """Cancels a queued or running job. Raises NotFoundError, ConflictError."""
        run_id = await self._db.fetchval(_SQL.run_of_job, job_id)
        if run_id is None:
            raise NotFoundError("job_run not found")
        done = await self._change(run_id, transitions.JobCancelRequested(job_id))
        job = done.before.job(job_id)
        if job is None:
            raise NotFoundError("job_run not found")
        if job.status not in (QUEUED, RUNNING):
            raise ConflictError("job_run already terminal")
        status = "canceling" if job.status == RUNNING else "canceled"
        return CancelledJob(job_id, run_id, job.name, status, done.signaled > 0)

    async def reclaim(self, agent_id: UUID) -> None:
        """An agent registered again: what it had been given is repeated or failed (protocol-agent 2.2, step 5).

        Jobs with a cancel stamp are left to it: the cancel is replayed (`pending_cancels`).
        """
        for row in await self._db.fetch(_SQL.running_jobs_of_agent, agent_id):
            if not row["cancel_requested"]:
                await self._lost(row["run_id"], row["id"], agent_id, row["attempt"], "agent re-registered")

    async def pending_cancels(self, agent_id: UUID) -> list[tuple[UUID, UUID]]:
        """(run id, job id) of the agent's running jobs that somebody cancelled."""
        rows = await self._db.fetch(_SQL.running_jobs_of_agent, agent_id)
        return [(row["run_id"], row["id"]) for row in rows if row["cancel_requested"]]

    async def reap(self) -> int:
        """One pass over running jobs whose agent is gone or silent; how many were taken back."""
        rows = await self._db.fetch(_SQL.stale_jobs, self._clock() - STALE_AFTER, REAP_BATCH)
        for row in rows:
            await self._lost(row["run_id"], row["id"], row["agent_id"], row["attempt"], "agent lost")
        return len(rows)

    async def dispatch(self, run_id: UUID) -> bool:
        """One pass over a run. True when jobs stay queued for want of a slot here: another server may have one."""
        try:
            work = await self._db.transaction(lambda conn: self._plan(conn, run_id))
        except NotFoundError:
            return False
        for made in work.assignments:
            await self._send(work.run, made)
        self._perform(work.run, work.effects)
        return work.unplaced

    # ---- inside ------------------------------------------------------------------------------------

    async def _lost(self, run_id: UUID, job_id: UUID, agent_id: UUID, attempt: int, reason: str) -> None:
        event = transitions.AgentLost(job_id, agent_id, attempt, f"{reason} before completion")
        try:
            await self._change(run_id, event)
        except NotFoundError:
            return

    async def _change(self, run_id: UUID, event: transitions.Event) -> _Done:
        async def work(conn: Connection) -> _Done:
            run = await store.load_locked(conn, run_id, self._definitions)
            if run is None:
                raise NotFoundError("run not found")
            outcome = transitions.apply(run, event, self._clock())
            if outcome.run is not run:
                await store.save(conn, run, outcome.run)
            return _Done(run, outcome)

        done = await self._db.transaction(work)
        return replace(done, signaled=self._perform(done.outcome.run, done.outcome.effects))

    async def _plan(self, conn: Connection, run_id: UUID) -> _Work:
        """Decides and saves until nothing more follows from the decisions themselves."""
        loaded = await store.load_locked(conn, run_id, self._definitions)
        if loaded is None:
            raise NotFoundError("run not found")
        work = _Work(loaded, self._fleet.slots())
        work.take(transitions.apply(loaded, transitions.Reached(), self._clock()))
        while self._decide(work):
            pass
        if work.run is not loaded:
            await store.save(conn, loaded, work.run)
        return work

    def _decide(self, work: _Work) -> bool:
        """One plan carried out on the values; True when a refusal or skip may have made more possible."""
        plan = dispatch.plan(work.run, work.slots)
        again = False
        work.unplaced = False
        for decision in plan.decisions:
            match decision:
                case dispatch.Assign(job, slot):
                    again |= self._assign(work, job, slot)
                case dispatch.Refuse(job, error):
                    work.take(transitions.apply(work.run, transitions.JobRefused(job.id, error), self._clock()))
                    again = True
                case dispatch.Skip(job):
                    work.take(transitions.apply(work.run, transitions.JobSkipped(job.id), self._clock()))
                    again = True
                case dispatch.Wait(code=code):
                    work.unplaced |= code in dispatch.NO_SLOT
        if work.run.status in OPEN and work.run.queue_reason != plan.queue_reason:
            work.run = replace(work.run, queue_reason=plan.queue_reason)
        return again

    def _assign(self, work: _Work, job: Job, slot: Slot) -> bool:
        """Gives the job to the slot; a job whose assignment cannot be built fails. True when it failed."""
        try:
            made = assignment.build(work.run, job)
        except AssignmentError as error:
            work.take(transitions.apply(work.run, transitions.JobRefused(job.id, _clean(str(error))), self._clock()))
            return True
        work.take(transitions.apply(work.run, transitions.JobAssigned(job.id, slot.agent_id), self._clock()))
        work.assignments.append(_Made(made, slot))
        work.slots = tuple(
            replace(s, free=s.free - 1) if s.session_id == slot.session_id else s for s in work.slots
        )
        return False

    async def _send(self, run: Run, made: _Made) -> None:
        if self._fleet.assign(made.slot.session_id, made.assignment):
            job = run.job(made.assignment.job_id)
            if job is not None:
                self._observer.job_started(run, job)
            return
        lost = transitions.AssignmentLost(made.assignment.job_id, made.slot.agent_id, made.assignment.attempt)
        await self._change(run.id, lost)

    def _perform(self, run: Run, effects: tuple[transitions.Effect, ...]) -> int:
        """Carries out the effects of a committed change; the number of agents reached by a stop."""
        signaled = 0
        for effect in effects:
            match effect:
                case transitions.StopJob(run_id, job_id, agent_id, reason):
                    signaled += self._fleet.cancel(agent_id, run_id, job_id, reason)
                case transitions.JobEnded(job, agent_id):
                    if agent_id is not None:
                        self._fleet.release(agent_id, job.id)
                    self._observer.job_ended(run, job)
                case transitions.LookAgain(run_id):
                    self._observer.wake(run_id)
                case transitions.RunEnded(run_id, status):
                    self._observer.run_ended(run_id, status)
                case transitions.PipelineFree(pipeline_id):
                    self._observer.wake_pipeline(pipeline_id)
        return signaled


@dataclass(frozen=True, slots=True)
class _Done:
    before: Run
    outcome: Outcome
    signaled: int = 0

    @property
    def changed(self) -> bool:
        return self.outcome.run is not self.before


@dataclass(frozen=True, slots=True)
class _Made:
    assignment: Assignment
    slot: Slot


@dataclass(slots=True)
class _Work:
    """A dispatch pass under way."""

    run: Run
    slots: tuple[Slot, ...]
    assignments: list[_Made] = field(default_factory=list)
    effects: tuple[transitions.Effect, ...] = ()
    unplaced: bool = False

    def take(self, outcome: Outcome) -> None:
        self.run = outcome.run
        self.effects += outcome.effects


def _clean(text: str) -> str:
    """Bounded, and without what PostgreSQL cannot store."""
    return text.replace("\x00", "")[:MAX_ERROR]
