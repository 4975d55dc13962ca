"""New runs: made with their first dispatch pass in one transaction, in one statement where their own rows decide it.

Knows how a run is stored with what its making does to others; the rules are in the pure modules.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import trio

from gocdnext.db.pool import Connection, Database
from gocdnext.runs import creation, planning, store, told
from gocdnext.runs.consequences import Aftermath, Consequences
from gocdnext.runs.creation import Allotted, CreatedRun, NewRun
from gocdnext.runs.crowd import Create, Crowd, Made, Work
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.events import Outcome
from gocdnext.runs.governance import concerns_others
from gocdnext.runs.ports import Fleet, Observer, Slot
from gocdnext.runs.settling import Done, Settled, Settling, announce
from gocdnext.runs.state import Run

T = TypeVar("T")


@dataclass(slots=True)
class Unkept:
    """A run that is made, before its transaction is committed."""

    allotted: Allotted
    done: Done
    aftermath: Aftermath

    @property
    def created(self) -> CreatedRun:
        run = self.allotted.run
        return CreatedRun(run.id, run.counter, run.pipeline_id)


class NewRuns:
    """Makes runs. Trio side; every method may raise DatabaseUnavailableError."""

    def __init__(
        self,
        db: Database,
        fleet: Fleet,
        observer: Observer,
        consequences: Consequences,
        definitions: Definitions,
        remembered: store.Remembered,
        settling: Settling,
        *,
        slots: trio.Lock,
        asks: Callable[[Run], bool],
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        """`slots` is held while slots are given away; `asks` tells whether a run waits for values kept elsewhere."""
        self._db = db
        self._fleet = fleet
        self._observer = observer
        self._consequences = consequences
        self._definitions = definitions
        self._remembered = remembered
        self._settling = settling
        self._slots = slots
        self._asks = asks
        self._clock = clock
        self._new_id = new_id
        self._heads = creation.Heads()
        self._crowd = Crowd(slots, self._in_one_transaction, self._finish_made)

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
        made: list[list[Unkept]] = []

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

    async def _finish_made(self, settled: Sequence[Settled]) -> None:
        for one in settled:
            await self._finish_new(one)

    async def _create_quickly(self, new: NewRun) -> Settled | None:
        """A run that is one statement, without a transaction around it; None when it cannot be."""
        allotted = self._guess(new)
        if allotted is None:
            return None

        async def work(conn: Connection) -> Settled | None:
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
    ) -> Unkept | None:
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
        return Unkept(allotted, done, Aftermath(done.effects))

    async def _create_under_lock(self, conn: Connection, new: NewRun, slots: Sequence[Slot]) -> Unkept:
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
        announce(self._observer, aftermath)
        return Unkept(allotted, done, aftermath)

    def _settle_new(self, made: Unkept) -> Settled:
        """After the commit of a new run."""
        self._heads.made(made.allotted)
        self._remembered.put(made.done.after)
        return self._settling.committed(made.done, made.aftermath)

    async def _finish_new(self, settled: Settled) -> CreatedRun:
        await self._settling.finish(settled)
        run = settled.done.before
        if settled.done.followed is None:
            self._observer.wake(run.id)
        return CreatedRun(run.id, run.counter, run.pipeline_id)
