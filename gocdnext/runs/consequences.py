"""What a change of one run does to others, inside the same transaction: downstream runs, superseded runs, passed gates.

Asyncio code on one raw connection. The rules are in the pure modules; this looks up whom they concern. Because it happens
in the transaction of the change, a crash leaves either both or neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from gocdnext import audit
from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.pipeline.identity import material_id
from gocdnext.runs import cascade, creation, events, governance, identity, store, told, transitions
from gocdnext.runs.creation import Allotted, NewRun
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.events import Consequence, Effect
from gocdnext.runs.state import AWAITING, OPEN, Revision, Run

_SQL = queries.load("runs")


@dataclass(slots=True)
class Aftermath:
    """What is to be done after the commit: effects by run, and runs that are new."""

    effects: list[tuple[Run, tuple[Effect, ...]]] = field(default_factory=list)
    created: list[UUID] = field(default_factory=list)


class Consequences:
    """Carries out consequences. `now` is asked once per change, so that one change has one time."""

    def __init__(
        self,
        definitions: Definitions,
        lane_busy: Callable[[], None],
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._definitions = definitions
        self._lane_busy = lane_busy
        self._clock = clock
        self._new_id = new_id

    async def create(self, conn: Connection, new: NewRun, aftermath: Aftermath) -> None:
        """A new queued run, which the scheduler is to look at after the commit."""
        allotted = await self.allot(conn, new)
        await self.keep(conn, allotted, allotted.run, aftermath, tell=True)
        aftermath.created.append(allotted.run.id)

    async def allot(self, conn: Connection, new: NewRun) -> Allotted:
        """A run with its number, which is held for it until the transaction ends. Raises NotFoundError,
        UnprocessableError."""
        head = await creation.lock_head(conn, new.pipeline_id)
        definition = await self._definitions.get(conn, new.definition_id or head.definition_id)
        return creation.allot(new, head, definition, now=self._clock(), new_id=self._new_id)

    async def keep(self, conn: Connection, allotted: Allotted, run: Run, aftermath: Aftermath, *, tell: bool) -> None:
        """Inserts the run; its first gates supersede older runs at once (spec-execution 2, step 9)."""
        kept = await creation.insert(conn, allotted, run, tell=tell)
        assert kept, "the pipeline changed under its lock"
        for event in told.quorums_overridden(run, self._clock(), self._new_id):
            await audit.add(conn, event)
        if run.definition.supersede:
            if await conn.fetchval(_SQL.lock_lane, run.pipeline_id):
                self._lane_busy()
            await self.carry_out(conn, run, cascade.supersede(run, cascade.ready_gates(run, 0)), aftermath)

    async def carry_out(
        self, conn: Connection, run: Run, consequences: Iterable[Consequence], aftermath: Aftermath
    ) -> None:
        """Does all of them, and what follows from those."""
        for consequence in consequences:
            match consequence:
                case events.StartDownstream(stage):
                    await self._start_downstream(conn, run, stage, aftermath)
                case events.SupersedeOlder(environments):
                    await self._supersede(conn, run, environments, aftermath)
                case events.GatePassed(environment):
                    await conn.execute(
                        _SQL.mark_gates_passed,
                        run.id,
                        [environment],
                        run.pipeline_id,
                        run.ref,
                        run.counter,
                        self._clock(),
                    )
                case events.GatesRearmed(environments):
                    await conn.execute(_SQL.void_gate_passes, run.id, sorted(environments))

    async def _start_downstream(self, conn: Connection, run: Run, stage: str, aftermath: Aftermath) -> None:
        rows = await conn.fetch(_SQL.downstream_pipelines, run.project_id, run.definition.name, stage)
        for row in rows:
            if await conn.fetchval(_SQL.started_by_upstream, row["id"], run.id):
                continue
            new = NewRun(
                pipeline_id=row["id"],
                cause="upstream",
                triggered_by="system:upstream",
                revisions=inherited(run, row["materials"], row["upstream_material"]),
                cause_detail={
                    "upstream_run_id": str(run.id),
                    "upstream_run_counter": run.counter,
                    "upstream_pipeline": run.definition.name,
                    "upstream_stage": stage,
                    # What came from a fork stays under its restrictions.
                    **({"from_fork": True} if run.from_fork else {}),
                    **identity.inherited_kind(run),
                },
                ref=run.ref,
                upstream_run_id=run.id,
            )
            await self.create(conn, new, aftermath)

    async def _supersede(self, conn: Connection, run: Run, environments: frozenset[str], aftermath: Aftermath) -> None:
        """Older runs of the lane that wait for the same environments. The lane lock keeps them still meanwhile."""
        rows = await conn.fetch(
            _SQL.older_waiting_runs, run.pipeline_id, run.counter, run.definition.supersede, run.ref
        )
        for row in rows:
            victim = await store.load_locked(conn, row["id"], self._definitions, self._lane_busy)
            if victim is None or not concerned(victim, environments):
                continue
            outcome = transitions.apply(victim, events.RunSuperseded(run.id, run.counter), self._clock())
            if outcome.run is victim:
                continue
            await store.save(conn, victim, outcome.run)
            await conn.execute(_SQL.notify_run_superseded, victim.id)
            await audit.add(conn, told.superseded(victim, run, self._clock(), self._new_id))
            aftermath.effects.append((outcome.run, outcome.effects))
            await self.carry_out(conn, outcome.run, outcome.consequences, aftermath)


def concerned(victim: Run, environments: frozenset[str]) -> bool:
    """Whether a gate that waits leads to one of the environments; an empty set on either side means every one."""
    if victim.status not in OPEN:
        return False
    waiting = [job for job in victim.jobs if job.status == AWAITING]
    behind = frozenset[str]().union(*(governance.governed_deploys(victim.definition, job.name) for job in waiting))
    return bool(waiting) and (not environments or not behind or bool(environments & behind))


def inherited(run: Run, materials: dict[str, str], upstream_material: str) -> dict[str, Revision]:
    """The upstream's revisions, told by fingerprint for the downstream's own materials (design 9, decision 7)."""
    translated = {
        materials[material.fingerprint]: revision
        for material in run.definition.materials
        if material.fingerprint in materials
        and (revision := run.revisions.get(str(material_id(run.pipeline_id, material.fingerprint)))) is not None
    }
    return {**run.revisions, **translated, upstream_material: Revision(str(run.id))}
