"""How a run is changed: under its lock, with what follows for others, in one transaction; then the effects.

The rules are in the pure modules; this loads, saves and carries out. Effects happen after the commit, are immediate and
may be lost with the process: the scheduler's tick and the reaper repair that. Knows no wishes of people: see `service`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import trio
import trio_asyncio

from gocdnext.db.pool import Connection, Database, Work
from gocdnext.errors import NotFoundError
from gocdnext.runs import deployments, events, planning, store, transitions
from gocdnext.runs.assignment import NO_SECRETS, SecretValues
from gocdnext.runs.consequences import Aftermath, Consequences
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.events import Outcome
from gocdnext.runs.newruns import NewRuns
from gocdnext.runs.planning import Pass
from gocdnext.runs.ports import Fleet, Observer, Secrets, Slot
from gocdnext.runs.settling import Done, Settled, Settling, announce
from gocdnext.runs.state import Run
from gocdnext.runs.turns import Turns

Decide = Callable[[Run], Done]


def _own_rows_only(done: Done) -> bool:
    """Whether the change is one, and writes stages, jobs and the run itself but no gates and nothing of others."""
    if done.after is done.before or done.consequences:
        return False
    return not any(job.gate is not None for job in done.before.jobs)


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
        self._remembered = store.Remembered()
        self._turns = Turns()
        self._slots = trio.Lock()
        self._lane_busy = observer.figures.lane_busy
        self._consequences = Consequences(self._definitions, self._lane_busy, clock=clock, new_id=new_id)
        self._settling = Settling(db, fleet, observer, self.apply)
        self.new = NewRuns(
            db,
            fleet,
            observer,
            self._consequences,
            self._definitions,
            self._remembered,
            self._settling,
            slots=self._slots,
            asks=self._asks,
            clock=clock,
            new_id=new_id,
        )
        """How runs begin."""

    async def read(self, run_id: UUID) -> Run | None:
        """The run as it is committed now."""
        return (await self.read_many([run_id])).get(run_id)

    async def read_many(self, run_ids: Collection[UUID]) -> dict[UUID, Run]:
        """The runs as they are committed now, in one statement; those that are gone are left out."""
        return await self._db.run(lambda conn: store.load_many(conn, run_ids, self._definitions))

    async def apply(self, run_id: UUID, event: events.Event, *, free: Slot | None = None) -> Done:
        """One event on one run. With `free`, a slot that the event frees, the run is dispatched to it at once.

        Raises NotFoundError. A refusal is in the outcome: nothing was changed then.
        """
        settled = await self._carried_out(run_id, self._decision(event, free))
        return replace(settled.done, signaled=await self._settling.finish(settled))

    async def apply_at_once(self, run_id: UUID, event: events.Event, *, free: Slot | None = None) -> bool:
        """`apply` for a caller on the asyncio side, which crosses nothing where the change is one statement.

        False, and nothing is changed, where it is not or where another change of the run is under way: `apply` it then.
        """
        with self._turns.if_free(run_id) as mine:
            work = self._quick(run_id, self._decision(event, free)) if mine else None
            settled = None if work is None else await self._db.aio_run(work)
        if settled is None:
            return False
        if settled.unfinished:
            await trio_asyncio.trio_as_aio(self._settling.finish)(settled)
        return True

    async def dispatch(self, run_id: UUID, slots: Callable[[], Sequence[Slot]]) -> Pass:
        """One dispatch pass over a run, with the slots there are when it is decided. Raises NotFoundError."""
        secrets = await self._secrets_for(run_id)
        # One at a time, as in `create`.
        async with self._slots:
            settled = await self._carried_out(
                run_id, lambda run: Done(run, Outcome(run), planning.carry_out(run, slots(), self._clock(), secrets))
            )
        await self._settling.finish(settled)
        assert settled.done.followed is not None
        if awaited := settled.done.followed.awaited:
            self._secrets.fetch(run_id, awaited)
        return settled.done.followed

    def _decision(self, event: events.Event, free: Slot | None) -> Decide:
        def decide(run: Run) -> Done:
            outcome = transitions.apply(run, event, self._clock())
            if outcome.run is run or free is None or self._asks(run):
                return Done(run, outcome)
            return Done(run, outcome, planning.carry_out(outcome.run, (free,), self._clock()))

        return decide

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

    async def _carried_out(self, run_id: UUID, decide: Decide) -> Settled:
        """Decides and saves; decides again under the lock when the run is not what this process remembers."""
        async with self._turns.of(run_id):
            work = self._quick(run_id, decide)
            settled = None if work is None else await self._db.run(work)
            return settled or await self._under_lock(run_id, decide)

    async def _under_lock(self, run_id: UUID, decide: Decide) -> Settled:
        aftermath = Aftermath()

        async def work(conn: Connection) -> tuple[Done, Run]:
            run = await store.load_locked(conn, run_id, self._definitions, self._lane_busy, self._remembered)
            if run is None:
                raise NotFoundError("run not found")
            done = decide(run)
            return done, await self._save(conn, aftermath, done)

        done, saved = await self._db.transaction(work)
        self._remembered.put(saved)
        return self._settling.committed(done, aftermath)

    def _quick(self, run_id: UUID, decide: Decide) -> Work[Settled | None] | None:
        """A change that touches nothing but the run's own rows is one statement, guarded by the version.

        None when the run is not remembered, or the change is none or of another kind. It comes to None when the run was
        changed by others.
        """
        run = self._remembered.get(run_id)
        done = None if run is None else decide(run)
        if run is None or done is None or not _own_rows_only(done):
            return None

        async def work(conn: Connection) -> Settled | None:
            if not await store.save(conn, run, done.after):
                self._remembered.forget(run_id)
                return None
            self._remembered.put(replace(done.after, version=run.version + 1))
            return self._settling.committed(done, Aftermath(done.effects))

        return work

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
        announce(self._observer, aftermath)
        return before if after is before else replace(after, version=before.version + 1)
