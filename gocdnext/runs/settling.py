"""What follows the commit of a change: words to agents and observers at once, and what asks the database afterwards.

Effects are immediate and may be lost with the process: the scheduler's tick and the reaper repair that. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

from gocdnext.db import queries
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.runs import events
from gocdnext.runs.consequences import Aftermath
from gocdnext.runs.events import Outcome
from gocdnext.runs.planning import Pass, Sent
from gocdnext.runs.ports import Fleet, Observer
from gocdnext.runs.state import Run
from gocdnext.tracing import doing

_SQL = queries.load("runs")


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


@dataclass(slots=True)
class Settled:
    """A committed change whose immediate effects are carried out, and what is left to do."""

    done: Done
    signaled: int = 0
    unsent: list[Sent] = field(default_factory=list)
    elsewhere: list[events.StopJob] = field(default_factory=list)
    services_over: dict[UUID, int] = field(default_factory=dict)
    """Runs that ended with services, and the generation of those."""
    superseded: bool = False
    """Whether runs gave way to a newer one."""

    @property
    def unfinished(self) -> bool:
        """Whether something is left that asks the database."""
        return bool(self.unsent or self.elsewhere or self.services_over)


class Settling:
    """Carries effects out. `lost` is told of an assignment whose session could not take it any more."""

    def __init__(
        self, db: Database, fleet: Fleet, observer: Observer, lost: Callable[[UUID, events.Event], Awaitable[object]]
    ) -> None:
        self._db = db
        self._fleet = fleet
        self._observer = observer
        self._lost = lost

    def committed(self, done: Done, aftermath: Aftermath) -> Settled:
        """All that follows a commit and waits for nothing. On whichever side the commit's answer arrived: an assignment is
        on its way before anybody else gets the word."""
        settled = Settled(done)
        # A run that was dispatched in the same transaction need not be looked at again.
        looked_at = None if done.followed is None else done.before.id
        for run, effects in aftermath.effects:
            for effect in effects:
                if isinstance(effect, events.LookAgain) and effect.run_id == looked_at:
                    continue
                if isinstance(effect, events.RunEnded) and run.definition.services:
                    settled.services_over[run.id] = run.service_generation
                settled.superseded |= isinstance(effect, events.RunEnded) and run.superseded_by is not None
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

    async def finish(self, settled: Settled) -> int:
        """What follows a commit and asks the database; how many agents of this process were told to stop a job."""
        try:
            await self._tell_others(settled)
        except DatabaseUnavailableError:
            if settled.superseded:
                self._observer.figures.superseding_unfinished()
            raise
        return settled.signaled

    async def _tell_others(self, settled: Settled) -> None:
        for sent in settled.unsent:
            lost = events.AssignmentLost(sent.assignment.job_id, sent.slot.agent_id, sent.assignment.attempt)
            await self._lost(sent.assignment.run_id, lost)
        if settled.elsewhere:
            # The agent's session may be on another server; one that is nowhere is told when it registers.
            ids = [(stop.agent_id, stop.run_id, stop.job_id) for stop in settled.elsewhere]
            await self._db.execute(_SQL.notify_stop_job, *map(list, zip(*ids, strict=True)))
        if over := settled.services_over:
            # To every server, this one included: any agent may keep services of the run. One that is away is told when
            # it registers.
            await self._db.execute(_SQL.notify_services_over, list(over), list(over.values()))

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
                    self._observer.figures.run_superseded()
            case events.PipelineFree(pipeline_id):
                self._observer.wake_pipeline(pipeline_id)


def announce(observer: Observer, aftermath: Aftermath) -> None:
    """Says which runs are new before their commit, because the notification may be here before the commit's answer is."""
    for run_id in aftermath.created:
        observer.announced(run_id)
