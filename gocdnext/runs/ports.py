"""What the runs room asks of others, as protocols, so that imports keep going one way.

The fleet implements `Fleet`, the server wires it in. No I/O here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from gocdnext.runs.assignment import Assignment, Reference, SecretValues
from gocdnext.runs.state import Job, Run


@dataclass(frozen=True, slots=True)
class Slot:
    """A ready session as dispatch sees it: where jobs with a subset of `tags` may go, `free` of them."""

    agent_id: UUID
    session_id: str
    name: str
    tags: frozenset[str]
    free: int
    capacity: int


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that an agent has."""

    agent_id: UUID
    run_id: UUID
    job_id: UUID


Wanted = frozenset[frozenset[str]]
"""Sets of tags that jobs wait for: any agent that has all of one set and a free slot will do."""


class Secrets(Protocol):
    """Where secrets are opened and identity tokens signed. May wait for the database, so it is never asked under a lock."""

    always: bool
    """Whether every job gets something, also of runs that ask for nothing: there is a runner profile `default`."""

    async def of_run(self, run_id: UUID) -> SecretValues:
        """What the jobs and notifications of a run ask for, without a wait for other stores. Raises
        DatabaseUnavailableError."""

    def fetch(self, run_id: UUID, references: Collection[Reference]) -> None:
        """Begins to ask other stores for these secrets of the run, which is looked at again when they have answered."""


class Fleet(Protocol):
    """The ready sessions of this process. All calls are immediate: nothing here waits."""

    def slots(self) -> tuple[Slot, ...]:
        """The ready, not draining sessions, ordered by agent name."""

    def open_to(self) -> list[frozenset[str]]:
        """The tags of each session with a free slot: cheap, because it is asked after every job that ends."""

    def freed(self, agent_id: UUID, job_id: UUID) -> Slot | None:
        """The one slot that the end of this job frees; None when the session takes no more work or has no such job.

        None as well while another session has room: a job must not be given a rare slot only because it was freed last."""

    def assign(self, session_id: str, assignment: Assignment) -> bool:
        """Puts the assignment into the session's send queue; False when the session is gone, draining or its queue is full."""

    def cancel(self, agent_id: UUID, run_id: UUID, job_id: UUID, reason: str) -> bool:
        """Tells the agent to stop the job; False when this process has no session of it."""

    def release(self, agent_id: UUID, job_id: UUID) -> None:
        """Forgets an assignment that ended without a result of the session (cancelled, reaped), so that its slot is free."""


class Figures(Protocol):
    """What is counted of runs and nobody else is told (contract-runs 10.1). All calls are immediate."""

    def run_superseded(self) -> None:
        """A run is finished because a newer one of its lane took its place."""

    def superseding_unfinished(self) -> None:
        """A run was superseded, and what that does outside of its transaction could not be done."""

    def lane_busy(self) -> None:
        """Somebody had to wait for the lock of a lane or of a serial pipeline."""

    def approval_expired(self) -> None:
        """A run is finished because nobody decided its gate in time."""

    def job_reclaimed(self, reason: str, outcome: str) -> None:
        """An attempt was to be taken back from its agent; `reclaiming` has the words."""

    def reclaim_swept(self, reason: str, outcome: str) -> None:
        """A pass over attempts that are to be taken back: `success` or `error`."""

    def job_disrupted(self, outcome: str) -> None:
        """An agent said that its machine was taken away, and this is what became of the attempt."""


class Observer(Protocol):
    """Who else wants to know: the scheduler is woken, figures are counted, readers of logs are told of the end."""

    @property
    def figures(self) -> Figures:
        """Who counts."""

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
