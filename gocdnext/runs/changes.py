"""How a run is changed: under its lock, with what follows for others, in one transaction; then the effects.

The rules are in the pure modules; this loads, saves and carries out. Effects happen after the commit, are immediate and
may be lost with the process: the scheduler's tick and the reaper repair that. Knows no wishes of people: see `service`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

import trio

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import NotFoundError
from gocdnext.runs import deployments, events, planning, store, transitions
from gocdnext.runs.consequences import Aftermath, Consequences
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.events import Outcome
from gocdnext.runs.governance import concerns_others
from gocdnext.runs.planning import Pass, Sent
from gocdnext.runs.ports import Fleet, Slot, Wanted
from gocdnext.runs.state import Job, Run

_SQL = queries.load("runs")


class Observer(Protocol):
    """Who else wants to know: the scheduler is woken, figures are counted, readers of logs are told of the end."""

    def wake(self, run_id: UUID) -> None:
        """The run may have something to dispatch."""

    def announced(self, run_id: UUID) -> None:
        """Word of this run is about to go to every server, this one included; it needs none."""

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
    """A change: what an event made of a run, and the dispatch pass that was made with it, if one was asked for."""

    before: Run
    outcome: Outcome
    followed: Pass | None = None
    signaled: int = 0
    """Agents of this process that were told to stop a job."""

    @property
    def changed(self) -> bool:
        """Whether the event fitted the state."""
        return self.outcome.run is not self.before

    @property
    def after(self) -> Run:
        """The run in the end."""
        return self.outcome.run if self.followed is None else self.followed.run

    @property
    def consequences(self) -> tuple[events.Consequence, ...]:
        """What it does to others."""
        return self.outcome.consequences + (() if self.followed is None else self.followed.consequences)

    @property
    def effects(self) -> list[tuple[Run, tuple[events.Effect, ...]]]:
        """What is to be done after the commit."""
        made = [(self.outcome.run, self.outcome.effects)]
        return made if self.followed is None else [*made, (self.followed.run, self.followed.effects)]


def _own_rows_only(done: Done) -> bool:
    """Whether the change is one, and writes stages, jobs and the run itself but no gates and nothing of others."""
    if done.after is done.before or done.consequences:
        return False
    return not any(job.gate is not None for job in done.before.jobs)


@dataclass(slots=True)
class _Unit:
    """What one transaction leaves to do."""

    aftermath: Aftermath = field(default_factory=Aftermath)
    saved: Run | None = None


class _Turns:
    """One change of a run at a time in this process: two that decide on the same version would make one of them load
    the run again. What other processes do is kept apart by the run's lock and version."""

    def __init__(self) -> None:
        self._locks: dict[UUID, trio.Lock] = {}

    @contextlib.asynccontextmanager
    async def of(self, run_id: UUID) -> AsyncIterator[None]:
        """The run's turn, in the order of asking."""
        lock = self._locks.setdefault(run_id, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            # Nobody holds it and nobody waits: the next one makes a new one.
            if not lock.locked() and self._locks.get(run_id) is lock:
                del self._locks[run_id]


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
        self._turns = _Turns()
        self._slots = trio.Lock()
        self._consequences = Consequences(self._definitions, clock=clock, new_id=new_id)

    async def read(self, run_id: UUID) -> Run | None:
        """The run as it is committed now."""
        return await self._db.run(lambda conn: store.load(conn, run_id, self._definitions))

    async def create(self, new: NewRun) -> CreatedRun:
        """A new run. Where its own rows decide it is kept as its first dispatch pass leaves it, so that its first jobs are
        on the wire before the answer is written. Raises NotFoundError (no such pipeline), UnprocessableError (no stages).
        """
        unit = _Unit()

        async def work(conn: Connection) -> Done:
            allotted = await self._consequences.allot(conn, new)
            run = allotted.run
            alone = not concerns_others(run.definition)
            first = planning.carry_out(run, self._fleet.slots(), self._clock()) if alone else None
            done = Done(run, Outcome(run), first)
            tell = first is None or bool(first.wanted)
            if tell:
                self._observer.announced(run.id)
            await self._consequences.keep(conn, allotted, done.after, unit.aftermath, tell=tell)
            unit.aftermath.effects += done.effects
            await self._consequences.carry_out(conn, done.after, done.consequences, unit.aftermath)
            self._announce(unit)
            return done

        async with self._slots:
            done = await self._db.transaction(work)
            self._remembered.put(done.after)
            await self._sent(done)
        await self._after(unit)
        run = done.before
        if done.followed is None:
            self._observer.wake(run.id)
        return CreatedRun(run.id, run.counter, run.pipeline_id)

    async def apply(self, run_id: UUID, event: events.Event, *, free: Slot | None = None) -> Done:
        """One event on one run. With `free`, a slot that the event frees, the run is dispatched to it at once.

        Raises NotFoundError. A refusal is in the outcome: nothing was changed then.
        """

        def decide(run: Run) -> Done:
            outcome = transitions.apply(run, event, self._clock())
            if outcome.run is run or free is None:
                return Done(run, outcome)
            return Done(run, outcome, planning.carry_out(outcome.run, (free,), self._clock()))

        done, unit = await self._carried_out(run_id, decide)
        looked_at = None if done.followed is None else run_id
        signaled = await self._after(unit, looked_at)
        await self._sent(done)
        return replace(done, signaled=signaled)

    async def dispatch(self, run_id: UUID, slots: Callable[[], Sequence[Slot]]) -> Pass:
        """One dispatch pass over a run, with the slots there are when it is decided. Raises NotFoundError."""
        # One at a time: two passes that see the same free slot would both give it away.
        async with self._slots:
            done, unit = await self._carried_out(
                run_id, lambda run: Done(run, Outcome(run), planning.carry_out(run, slots(), self._clock()))
            )
            await self._sent(done)
        await self._after(unit)
        assert done.followed is not None
        return done.followed

    # ---- inside ------------------------------------------------------------------------------------

    async def _carried_out(self, run_id: UUID, decide: Callable[[Run], Done]) -> tuple[Done, _Unit]:
        """Decides and saves; decides again under the lock when the run is not what this process remembers."""
        async with self._turns.of(run_id):
            quick = await self._quickly(run_id, decide)
            done, unit = quick if quick is not None else await self._under_lock(run_id, decide)
            if unit.saved is not None:
                self._remembered.put(unit.saved)
            return done, unit

    async def _under_lock(self, run_id: UUID, decide: Callable[[Run], Done]) -> tuple[Done, _Unit]:
        unit = _Unit()

        async def work(conn: Connection) -> Done:
            run = await store.load_locked(conn, run_id, self._definitions, self._remembered)
            if run is None:
                raise NotFoundError("run not found")
            done = decide(run)
            await self._save(conn, unit, done)
            return done

        return await self._db.transaction(work), unit

    async def _quickly(self, run_id: UUID, decide: Callable[[Run], Done]) -> tuple[Done, _Unit] | None:
        """A change that touches nothing but the run's own rows is one statement, guarded by the version.

        None when the run is not remembered, was changed by others, or the change is none or of another kind.
        """
        run = self._remembered.get(run_id)
        done = None if run is None else decide(run)
        if run is None or done is None or not _own_rows_only(done):
            return None
        if not await self._db.run(lambda conn: store.save(conn, run, done.after)):
            self._remembered.forget(run_id)
            return None
        unit = _Unit(saved=replace(done.after, version=run.version + 1))
        unit.aftermath.effects += done.effects
        return done, unit

    async def _save(self, conn: Connection, unit: _Unit, done: Done) -> None:
        """Everything of the change that belongs into its transaction."""
        before, after = done.before, done.after
        unit.saved = before
        if after is not before:
            assert await store.save(conn, before, after), "the run changed under its lock"
            unit.saved = replace(after, version=before.version + 1)
            if any(job.retry_unsafe for job in before.jobs):
                await deployments.follow(conn, before, after, self._clock())
        if done.followed is not None:
            await deployments.start(conn, after, done.followed.deploys, self._clock(), self._new_id)
        unit.aftermath.effects += done.effects
        await self._consequences.carry_out(conn, after, done.consequences, unit.aftermath)
        self._announce(unit)

    def _announce(self, unit: _Unit) -> None:
        """Before the commit, because the notification may be here before the commit's answer is."""
        for run_id in unit.aftermath.created:
            self._observer.announced(run_id)

    async def _sent(self, done: Done) -> None:
        """Sends what the pass assigned, and says what it could not place."""
        if done.followed is None:
            return
        for sent in done.followed.assignments:
            await self._send(done.followed.run, sent)
        if done.followed.wanted:
            self._observer.waits(done.before.id, frozenset(done.followed.wanted))

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
