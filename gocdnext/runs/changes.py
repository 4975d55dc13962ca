"""How a run is changed: under its lock, with what follows for others, in one transaction; then the effects.

The rules are in the pure modules; this loads, saves and carries out. Effects happen after the commit, are immediate and
may be lost with the process: the scheduler's tick and the reaper repair that. Knows no wishes of people: see `service`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import NotFoundError
from gocdnext.runs import deployments, events, planning, store, transitions
from gocdnext.runs.consequences import Aftermath, Consequences
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.events import Outcome
from gocdnext.runs.planning import Pass, Sent
from gocdnext.runs.ports import Fleet, Slot, Wanted
from gocdnext.runs.state import OPEN, Job, Run

_SQL = queries.load("runs")


class Observer(Protocol):
    """Who else wants to know: the scheduler is woken, figures are counted, readers of logs are told of the end."""

    def wake(self, run_id: UUID) -> None:
        """The run may have something to dispatch."""

    def waits(self, run_id: UUID, wanted: Wanted) -> None:
        """The run was just looked at and has jobs for agents with these tags."""

    def job_started(self, run: Run, job: Job) -> None:
        """An attempt was put on the wire."""

    def job_ended(self, run: Run, job: Job) -> None:
        """An attempt ended."""

    def run_ended(self, run_id: UUID, status: str) -> None:
        """The run is finished."""

    def wake_pipeline(self, pipeline_id: UUID) -> None:
        """A serial pipeline's slot is free: the oldest run that waits for it may start."""


@dataclass(frozen=True, slots=True)
class Done:
    """A change that is committed and carried out."""

    before: Run
    outcome: Outcome
    signaled: int = 0
    """Agents of this process that were told to stop a job."""
    followed: Pass | None = None
    """The dispatch pass that was made in the same transaction, if one was asked for."""

    @property
    def changed(self) -> bool:
        """Whether the event fitted the state."""
        return self.outcome.run is not self.before


@dataclass(slots=True)
class _Unit:
    """What one transaction leaves to do."""

    aftermath: Aftermath = field(default_factory=Aftermath)
    saved: Run | None = None


class Changes:
    """Changes of runs, one transaction each. Trio side; every method may raise DatabaseUnavailableError."""

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
        self._remembered = store.Remembered()
        self._consequences = Consequences(self._definitions, clock=clock, new_id=new_id)

    async def read(self, run_id: UUID) -> Run | None:
        """The run as it is committed now."""
        return await self._db.run(lambda conn: store.load(conn, run_id, self._definitions))

    async def create(self, new: NewRun) -> CreatedRun:
        """A new queued run. Raises NotFoundError (no such pipeline), UnprocessableError (no stages)."""
        unit = _Unit()
        created = await self._db.transaction(lambda conn: self._consequences.create(conn, new, unit.aftermath))
        await self._after(unit)
        return created

    async def apply(self, run_id: UUID, event: events.Event, *, free: Slot | None = None) -> Done:
        """One event on one run. With `free`, a slot that the event frees, the run is dispatched to it at once.

        Raises NotFoundError. A refusal is in the outcome: nothing was changed then.
        """
        unit = _Unit()

        async def work(conn: Connection) -> Done:
            run = await self._locked(conn, run_id)
            outcome = transitions.apply(run, event, self._clock())
            followed = None
            if outcome.run is not run and free is not None:
                followed = planning.carry_out(outcome.run, (free,), self._clock())
            await self._save(conn, unit, run, outcome, followed)
            return Done(run, outcome, followed=followed)

        done = await self._db.transaction(work)
        unit.aftermath.effects.insert(0, (done.outcome.run, done.outcome.effects))
        signaled = await self._after(unit, looked_at=None if done.followed is None else run_id)
        if done.followed is not None:
            await self._send_all(done.followed)
            if done.followed.wanted:
                self._observer.waits(run_id, frozenset(done.followed.wanted))
        return replace(done, signaled=signaled)

    async def dispatch(self, run_id: UUID, slots: Sequence[Slot]) -> Pass:
        """One dispatch pass over a run. Raises NotFoundError."""
        unit = _Unit()

        async def work(conn: Connection) -> Pass:
            run = await self._locked(conn, run_id)
            made = planning.carry_out(run, slots, self._clock())
            await self._save(conn, unit, run, Outcome(run), made)
            return made

        made = await self._db.transaction(work)
        await self._send_all(made)
        await self._after(unit)
        return made

    # ---- inside ------------------------------------------------------------------------------------

    async def _locked(self, conn: Connection, run_id: UUID) -> Run:
        run = await store.load_locked(conn, run_id, self._definitions, self._remembered)
        if run is None:
            raise NotFoundError("run not found")
        return run

    async def _save(self, conn: Connection, unit: _Unit, before: Run, outcome: Outcome, followed: Pass | None) -> None:
        """Everything of the change that belongs into its transaction."""
        after = outcome.run if followed is None else followed.run
        consequences = outcome.consequences
        if after is not before:
            await store.save(conn, before, after)
            if any(job.retry_unsafe for job in before.jobs):
                await deployments.follow(conn, before, after, self._clock())
        if followed is not None:
            await deployments.start(conn, after, followed.deploys, self._clock(), self._new_id)
            consequences += followed.consequences
            unit.aftermath.effects.append((after, followed.effects))
        await self._consequences.carry_out(conn, after, consequences, unit.aftermath)
        unit.saved = after if after is before else replace(after, version=before.version + 1)

    async def _send_all(self, made: Pass) -> None:
        for sent in made.assignments:
            await self._send(made.run, sent)

    async def _send(self, run: Run, sent: Sent) -> None:
        if self._fleet.assign(sent.slot.session_id, sent.assignment):
            job = run.job(sent.assignment.job_id)
            if job is not None:
                self._observer.job_started(run, job)
            return
        await self.apply(
            run.id, events.AssignmentLost(sent.assignment.job_id, sent.slot.agent_id, sent.assignment.attempt)
        )

    async def _after(self, unit: _Unit, looked_at: UUID | None = None) -> int:
        """Carries out the effects of a committed change; how many agents of this process were told to stop a job.

        `looked_at` is a run that was dispatched in the same transaction: it need not be looked at again.
        """
        if unit.saved is not None and unit.saved.status in OPEN:
            self._remembered.put(unit.saved)
        elif unit.saved is not None:
            self._remembered.forget(unit.saved.id)
        signaled, elsewhere = 0, []
        for run, effects in unit.aftermath.effects:
            for effect in effects:
                if isinstance(effect, events.LookAgain) and effect.run_id == looked_at:
                    continue
                if not isinstance(effect, events.StopJob):
                    self._perform(run, effect)
                elif self._fleet.cancel(effect.agent_id, effect.run_id, effect.job_id, effect.reason):
                    signaled += 1
                else:
                    elsewhere.append(effect)
        for run_id in unit.aftermath.created:
            self._observer.wake(run_id)
        if elsewhere:
            # The agent's session may be on another server; one that is nowhere is told when it registers.
            ids = [(stop.agent_id, stop.run_id, stop.job_id) for stop in elsewhere]
            await self._db.execute(_SQL.notify_stop_job, *map(list, zip(*ids, strict=True)))
        return signaled

    def _perform(self, run: Run, effect: events.Effect) -> None:
        match effect:
            case events.JobEnded(job, agent_id):
                if agent_id is not None:
                    self._fleet.release(agent_id, job.id)
                self._observer.job_ended(run, job)
            case events.LookAgain(run_id):
                self._observer.wake(run_id)
            case events.RunEnded(run_id, status):
                self._observer.run_ended(run_id, status)
            case events.PipelineFree(pipeline_id):
                self._observer.wake_pipeline(pipeline_id)
