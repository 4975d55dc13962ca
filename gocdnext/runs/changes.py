"""How a run is changed: under its lock, with what follows for others, in one transaction; then the effects.

The rules are in the pure modules; this loads, saves and carries out. Effects happen after the commit, are immediate and
may be lost with the process: the scheduler's tick and the reaper repair that. Knows no wishes of people: see `service`.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import trio

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import NotFoundError
from gocdnext.runs import creation, deployments, events, planning, store, told, transitions
from gocdnext.runs.assignment import NO_SECRETS, SecretValues
from gocdnext.runs.consequences import Aftermath, Consequences
from gocdnext.runs.creation import Allotted, CreatedRun, NewRun
from gocdnext.runs.crowd import Create, Crowd, Made, Work
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.events import Outcome
from gocdnext.runs.governance import concerns_others
from gocdnext.runs.planning import Pass, Sent
from gocdnext.runs.ports import Fleet, Observer, Secrets, Slot
from gocdnext.runs.state import Run
from gocdnext.runs.turns import Turns
from gocdnext.tracing import doing

_SQL = queries.load("runs")
T = TypeVar("T")


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
class _Settled:
    """A committed change whose immediate effects are carried out, and what is left to do."""

    done: Done
    signaled: int = 0
    unsent: list[Sent] = field(default_factory=list)
    elsewhere: list[events.StopJob] = field(default_factory=list)
    services_over: dict[UUID, int] = field(default_factory=dict)
    """Runs that ended with services, and the generation of those."""


@dataclass(slots=True)
class _NewRun:
    """A run that is made, before its transaction is committed."""

    allotted: Allotted
    done: Done
    aftermath: Aftermath

    @property
    def created(self) -> CreatedRun:
        run = self.allotted.run
        return CreatedRun(run.id, run.counter, run.pipeline_id)


class Changes:
    """Changes of runs, one transaction each. Trio side; every method may raise DatabaseUnavailableError."""

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
        self._secrets = secrets
        self._observer = observer
        self._clock = clock
        self._new_id = new_id
        self._definitions = Definitions()
        self._heads = creation.Heads()
        self._remembered = store.Remembered()
        self._turns = Turns()
        self._slots = trio.Lock()
        self._crowd = Crowd(self._slots, self._in_one_transaction, self._finish_made)
        self._consequences = Consequences(self._definitions, clock=clock, new_id=new_id)

    async def read(self, run_id: UUID) -> Run | None:
        """The run as it is committed now."""
        return (await self.read_many([run_id])).get(run_id)

    async def read_many(self, run_ids: Collection[UUID]) -> dict[UUID, Run]:
        """The runs as they are committed now, in one statement; those that are gone are left out."""
        return await self._db.run(lambda conn: store.load_many(conn, run_ids, self._definitions))

    async def create(self, new: NewRun) -> CreatedRun:
        """A new run. Where its own rows decide it is kept as its first dispatch pass leaves it, so that its first jobs are
        on the wire before the answer is written. Raises NotFoundError (no such pipeline), UnprocessableError (no stages).
        """
        async with self._slots:
            # One at a time: two passes that see the same free slot would both give it away.
            settled = await self._create_quickly(new)
            if settled is None:
                made = await self._db.transaction(lambda conn: self._create_under_lock(conn, new, self._fleet.slots()))
                settled = self._settle_new(made)
        return await self._finish_new(settled)

    async def create_in(self, work: Callable[[Connection, Create], Awaitable[T]], *, kind: Hashable = None) -> T:
        """`work` in a transaction (asyncio side), with a function that makes runs in it; nothing of them is there when it
        raises. Their first jobs are on the wire before this returns. Works of one `kind` that come while another
        transaction is under way share the next one; each is done alone, once more, when one of them raises."""
        return await self._crowd.run(work, kind)

    async def _in_one_transaction(self, works: Sequence[Work]) -> list[Made]:
        """What each work returned, with the runs that it made; they are settled."""
        made: list[list[_NewRun]] = []

        async def inside(conn: Connection) -> list[object]:
            made.clear()
            slots = self._fleet.slots()

            async def create(new: NewRun) -> CreatedRun:
                nonlocal slots
                one = await self._create_guessed(conn, self._guess(new), slots)
                if one is None:
                    one = await self._create_under_lock(conn, new, slots)
                made[-1].append(one)
                # The next run of the pipeline may be in this very transaction.
                self._heads.made(one.allotted)
                # Two runs of one transaction must not be given the same slot.
                slots = slots if one.done.followed is None else one.done.followed.slots
                return one.created

            results = []
            for work in works:
                made.append([])
                results.append(await work(conn, create))
            return results

        try:
            results = await self._db.transaction(inside)
        except BaseException:
            for one in itertools.chain.from_iterable(made):
                self._heads.forget(one.allotted.run.pipeline_id)
            raise
        return [Made(result, [self._settle_new(one) for one in own]) for result, own in zip(results, made, strict=True)]

    async def _finish_made(self, settled: Sequence[_Settled]) -> None:
        for one in settled:
            await self._finish_new(one)

    async def _create_quickly(self, new: NewRun) -> _Settled | None:
        """A run that is one statement, without a transaction around it; None when it cannot be."""
        allotted = self._guess(new)
        if allotted is None:
            return None

        async def work(conn: Connection) -> _Settled | None:
            made = await self._create_guessed(conn, allotted, self._fleet.slots())
            return None if made is None else self._settle_new(made)

        return await self._db.run(work)

    def _guess(self, new: NewRun) -> Allotted | None:
        """The run as it should be, from what this process remembers of its pipeline; None when it has to be read."""
        head = self._heads.get(new.pipeline_id)
        definition = None if head is None else self._definitions.known(head.definition_id)
        if head is None or definition is None or concerns_others(definition) or new.definition_id is not None:
            return None
        allotted = creation.allot(new, head, definition, now=self._clock(), new_id=self._new_id)
        # What the audit trail is told of it belongs into one transaction with it.
        return None if self._asks(allotted.run) or told.overrides(allotted.run) else allotted

    async def _create_guessed(
        self, conn: Connection, allotted: Allotted | None, slots: Sequence[Slot]
    ) -> _NewRun | None:
        """A run whose first pass places everything is one statement, guarded by what its pipeline was. None when the
        pipeline is not remembered, has changed, or the run is of another kind."""
        if allotted is None:
            return None
        first = planning.carry_out(allotted.run, slots, self._clock())
        done = Done(allotted.run, Outcome(allotted.run), first)
        if first.wanted or done.consequences:
            return None
        if not await creation.insert(conn, allotted, first.run, tell=False, guessed=True):
            self._heads.forget(allotted.run.pipeline_id)
            return None
        return _NewRun(allotted, done, Aftermath(done.effects))

    async def _create_under_lock(self, conn: Connection, new: NewRun, slots: Sequence[Slot]) -> _NewRun:
        aftermath = Aftermath()
        allotted = await self._consequences.allot(conn, new)
        run = allotted.run
        alone = not (concerns_others(run.definition) or self._asks(run))
        first = planning.carry_out(run, slots, self._clock()) if alone else None
        done = Done(run, Outcome(run), first)
        tell = first is None or bool(first.wanted)
        if tell:
            self._observer.announced(run.id)
        await self._consequences.keep(conn, allotted, done.after, aftermath, tell=tell)
        aftermath.effects += done.effects
        await self._consequences.carry_out(conn, done.after, done.consequences, aftermath)
        self._announce(aftermath)
        return _NewRun(allotted, done, aftermath)

    def _settle_new(self, made: _NewRun) -> _Settled:
        """After the commit of a new run."""
        self._heads.made(made.allotted)
        self._remembered.put(made.done.after)
        return self._settle(made.done, made.aftermath)

    async def _finish_new(self, settled: _Settled) -> CreatedRun:
        await self._finish(settled)
        run = settled.done.before
        if settled.done.followed is None:
            self._observer.wake(run.id)
        return CreatedRun(run.id, run.counter, run.pipeline_id)

    async def apply(self, run_id: UUID, event: events.Event, *, free: Slot | None = None) -> Done:
        """One event on one run. With `free`, a slot that the event frees, the run is dispatched to it at once.

        Raises NotFoundError. A refusal is in the outcome: nothing was changed then.
        """

        def decide(run: Run) -> Done:
            outcome = transitions.apply(run, event, self._clock())
            if outcome.run is run or free is None or self._asks(run):
                return Done(run, outcome)
            return Done(run, outcome, planning.carry_out(outcome.run, (free,), self._clock()))

        settled = await self._carried_out(run_id, decide)
        return replace(settled.done, signaled=await self._finish(settled))

    async def dispatch(self, run_id: UUID, slots: Callable[[], Sequence[Slot]]) -> Pass:
        """One dispatch pass over a run, with the slots there are when it is decided. Raises NotFoundError."""
        secrets = await self._secrets_for(run_id)
        # One at a time, as in `create`.
        async with self._slots:
            settled = await self._carried_out(
                run_id, lambda run: Done(run, Outcome(run), planning.carry_out(run, slots(), self._clock(), secrets))
            )
        await self._finish(settled)
        assert settled.done.followed is not None
        if awaited := settled.done.followed.awaited:
            self._secrets.fetch(run_id, awaited)
        return settled.done.followed

    def _asks(self, run: Run) -> bool:
        """Whether the run is only dispatched with values at hand that are kept elsewhere."""
        return run.asks_for_secrets or self._secrets.always

    async def _secrets_for(self, run_id: UUID) -> SecretValues:
        """The values that jobs of the run ask for: before any lock is taken, because other stores may be slow."""
        run = self._remembered.get(run_id)
        if run is not None and not self._asks(run):
            return NO_SECRETS
        return await self._secrets.of_run(run_id)

    # ---- inside ------------------------------------------------------------------------------------

    async def _carried_out(self, run_id: UUID, decide: Callable[[Run], Done]) -> _Settled:
        """Decides and saves; decides again under the lock when the run is not what this process remembers."""
        async with self._turns.of(run_id):
            return await self._quickly(run_id, decide) or await self._under_lock(run_id, decide)

    async def _under_lock(self, run_id: UUID, decide: Callable[[Run], Done]) -> _Settled:
        aftermath = Aftermath()

        async def work(conn: Connection) -> tuple[Done, Run]:
            run = await store.load_locked(conn, run_id, self._definitions, self._remembered)
            if run is None:
                raise NotFoundError("run not found")
            done = decide(run)
            return done, await self._save(conn, aftermath, done)

        done, saved = await self._db.transaction(work)
        self._remembered.put(saved)
        return self._settle(done, aftermath)

    async def _quickly(self, run_id: UUID, decide: Callable[[Run], Done]) -> _Settled | None:
        """A change that touches nothing but the run's own rows is one statement, guarded by the version.

        None when the run is not remembered, was changed by others, or the change is none or of another kind.
        """
        run = self._remembered.get(run_id)
        done = None if run is None else decide(run)
        if run is None or done is None or not _own_rows_only(done):
            return None

        async def work(conn: Connection) -> _Settled | None:
            if not await store.save(conn, run, done.after):
                return None
            self._remembered.put(replace(done.after, version=run.version + 1))
            return self._settle(done, Aftermath(done.effects))

        settled = await self._db.run(work)
        if settled is None:
            self._remembered.forget(run_id)
        return settled

    async def _save(self, conn: Connection, aftermath: Aftermath, done: Done) -> Run:
        """Everything of the change that belongs into its transaction; the run as it is then."""
        before, after = done.before, done.after
        if after is not before:
            saved = await store.save(conn, before, after)
            assert saved, "the run changed under its lock"
            if any(job.retry_unsafe for job in before.jobs):
                await deployments.follow(conn, before, after, self._clock())
        if done.followed is not None:
            await deployments.start(conn, after, done.followed.deploys, self._clock(), self._new_id)
        aftermath.effects += done.effects
        await self._consequences.carry_out(conn, after, done.consequences, aftermath)
        self._announce(aftermath)
        return before if after is before else replace(after, version=before.version + 1)

    def _announce(self, aftermath: Aftermath) -> None:
        """Before the commit, because the notification may be here before the commit's answer is."""
        for run_id in aftermath.created:
            self._observer.announced(run_id)

    def _settle(self, done: Done, aftermath: Aftermath) -> _Settled:
        """All that follows a commit and waits for nothing. On whichever side the commit's answer arrived: an assignment is
        on its way before anybody else gets the word."""
        settled = _Settled(done)
        # A run that was dispatched in the same transaction need not be looked at again.
        looked_at = None if done.followed is None else done.before.id
        for run, effects in aftermath.effects:
            for effect in effects:
                if isinstance(effect, events.LookAgain) and effect.run_id == looked_at:
                    continue
                if isinstance(effect, events.RunEnded) and run.definition.services:
                    settled.services_over[run.id] = run.service_generation
                if not isinstance(effect, events.StopJob):
                    self._perform(run, effect)
                elif self._fleet.cancel(effect.agent_id, effect.run_id, effect.job_id, effect.reason):
                    settled.signaled += 1
                else:
                    settled.elsewhere.append(effect)
        if done.followed is not None:
            settled.unsent += [sent for sent in done.followed.assignments if not self._send(done.followed.run, sent)]
            if done.followed.wanted:
                self._observer.waits(done.before.id, frozenset(done.followed.wanted))
        for run_id in aftermath.created:
            self._observer.wake(run_id)
        return settled

    def _send(self, run: Run, sent: Sent) -> bool:
        """Puts an assignment on the wire; False when its session cannot take it any more."""
        with doing("job.dispatch", run_id=run.id, job_id=sent.assignment.job_id, agent_id=sent.slot.agent_id):
            taken = self._fleet.assign(sent.slot.session_id, sent.assignment)
        if not taken:
            return False
        job = run.job(sent.assignment.job_id)
        if job is not None:
            self._observer.job_started(run, job)
        return True

    async def _finish(self, settled: _Settled) -> int:
        """What follows a commit and asks the database; how many agents of this process were told to stop a job."""
        for sent in settled.unsent:
            lost = events.AssignmentLost(sent.assignment.job_id, sent.slot.agent_id, sent.assignment.attempt)
            await self.apply(sent.assignment.run_id, lost)
        if settled.elsewhere:
            # The agent's session may be on another server; one that is nowhere is told when it registers.
            ids = [(stop.agent_id, stop.run_id, stop.job_id) for stop in settled.elsewhere]
            await self._db.execute(_SQL.notify_stop_job, *map(list, zip(*ids, strict=True)))
        if over := settled.services_over:
            # To every server, this one included: any agent may keep services of the run. One that is away is told when
            # it registers.
            await self._db.execute(_SQL.notify_services_over, list(over), list(over.values()))
        return settled.signaled

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
                if run.superseded_by is not None:
                    self._observer.run_superseded()
            case events.PipelineFree(pipeline_id):
                self._observer.wake_pipeline(pipeline_id)
