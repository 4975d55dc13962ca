"""The loop that dispatches: it is told of runs, looks at each once, and looks at all of them every 15 seconds.

One loop per process, so slots are never counted twice here; several processes on one database are safe because a
pass holds the run's lock. Being told twice is harmless, being told of nothing costs a tick.
"""

from __future__ import annotations

from uuid import UUID

import structlog
import trio

from gocdnext.db import queries
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.runs.ports import Fleet, Wanted
from gocdnext.runs.service import RunService

_SQL = queries.load("runs")
_log = structlog.get_logger("scheduler")
TICK = 15.0
"""Seconds between two looks at every open run: the repair of every lost wake-up (spec-execution 19)."""
MAX_PENDING = 10_000
"""Runs remembered one by one; above that the next pass looks at all of them."""
PAGE = 10_000


class Scheduler:
    """Wakes may come from anywhere on the thread, asyncio callbacks included; they never wait."""

    def __init__(self) -> None:
        self._pending: dict[UUID, None] = {}
        self._pipelines: set[UUID] = set()
        self._waiting: dict[UUID, Wanted] = {}
        self._untold: set[UUID] = set()
        self._echoes: set[UUID] = set()
        self._slot_free = False
        self._all = False
        self._woken = trio.Event()
        self.last_pass: float | None = None
        """`trio.current_time()` at the end of the newest pass; None before the first."""

    def wake(self, run_id: UUID) -> None:
        """The run may have something to dispatch."""
        if len(self._pending) >= MAX_PENDING:
            self._all = True
        else:
            self._pending[run_id] = None
        self._woken.set()

    def announced(self, run_id: UUID) -> None:
        """Word of this run is about to come back as a notification, and needs no pass of its own."""
        if len(self._echoes) < MAX_PENDING:
            self._echoes.add(run_id)

    def heard(self, run_id: UUID) -> None:
        """A notification speaks of this run."""
        if run_id in self._echoes:
            self._echoes.discard(run_id)
        else:
            self.wake(run_id)

    def wake_pipeline(self, pipeline_id: UUID) -> None:
        """A serial pipeline's slot is free: look at its queued runs, oldest first."""
        self._pipelines.add(pipeline_id)
        self._woken.set()

    def waits(self, run_id: UUID, wanted: Wanted) -> None:
        """The run has jobs for agents with these tags: they get the next slots that fit."""
        if self._waiting.get(run_id) == wanted:
            return
        if run_id not in self._waiting:
            # Once: another server that was told remembers the run as this one does.
            self._untold.add(run_id)
        if len(self._waiting) < MAX_PENDING:
            self._waiting[run_id] = wanted
        self.slot_free()

    def slot_free(self) -> None:
        """An agent has a free slot: look at the runs that waited for one."""
        self._slot_free = True
        self._woken.set()

    def wake_all(self) -> None:
        """An agent came, or notifications may have been missed: look at every open run."""
        self._all = True
        self._woken.set()

    async def run(
        self,
        db: Database,
        runs: RunService,
        fleet: Fleet,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Dispatches until cancelled. Survives an absent database: what was pending is looked at again."""
        self.wake_all()
        task_status.started()
        while True:
            with trio.move_on_after(TICK) as tick:
                await self._woken.wait()
            self._woken = trio.Event()
            if tick.cancelled_caught:
                self._all = True
            try:
                await self._pass(db, runs, fleet)
            except DatabaseUnavailableError as error:
                _log.warning("dispatch waits for the database", error=str(error))
                self._all = True
            self.last_pass = trio.current_time()

    async def _pass(self, db: Database, runs: RunService, fleet: Fleet) -> None:
        pending, self._pending = self._pending, {}
        pipelines, self._pipelines = self._pipelines, set()
        everything, self._all = self._all, False
        slot_free, self._slot_free = self._slot_free, False
        if slot_free:
            # First, because they have waited longer than what was just queued.
            room = fleet.open_to()
            for run_id, wanted in list(self._waiting.items()):
                if not room:
                    break
                if run_id not in pending and _fits(wanted, room):
                    await self._dispatch(runs, run_id)
                    room = fleet.open_to()
        for pipeline_id in pipelines:
            for row in await db.fetch(_SQL.queued_runs_of_pipeline, pipeline_id, PAGE):
                pending.setdefault(row["id"])
        for run_id in pending:
            await self._dispatch(runs, run_id)
        if everything:
            for row in await db.fetch(_SQL.open_runs, PAGE):
                if row["id"] not in pending:
                    await self._dispatch(runs, row["id"])
        untold, self._untold = self._untold & self._waiting.keys(), set()
        if untold:
            self._echoes |= untold
            await db.execute(_SQL.notify_run_queued, list(untold))

    async def _dispatch(self, runs: RunService, run_id: UUID) -> None:
        if not await runs.dispatch(run_id):
            self._waiting.pop(run_id, None)


def _fits(wanted: Wanted, room: list[frozenset[str]]) -> bool:
    return any(tags <= own for own in room for tags in wanted)
