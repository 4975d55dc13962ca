"""The words of the state machine: what can happen to a run, what follows, and why a wish is refused.

Events carry the state they expect. `Consequence`s belong into the transaction of the change, `Effect`s happen after its
commit. Pure values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from gocdnext.runs.state import Job, Run

# ---- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobAssigned:
    """A session was given the job."""

    job_id: UUID
    agent_id: UUID


@dataclass(frozen=True, slots=True)
class AssignmentLost:
    """The assignment of this attempt could not be sent: nothing ran, so the attempt is not used up."""

    job_id: UUID
    agent_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class JobRefused:
    """The job can never be dispatched as it is; `error` says why."""

    job_id: UUID
    error: str


@dataclass(frozen=True, slots=True)
class JobSkipped:
    """What the job needs was cancelled or skipped, or the notification does not fit the outcome."""

    job_id: UUID


@dataclass(frozen=True, slots=True)
class JobReported:
    """An agent's result for the attempt it was given."""

    job_id: UUID
    agent_id: UUID
    attempt: int
    success: bool
    exit_code: int
    error: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The agent of this attempt is gone, came back without it, or says its machine was taken away."""

    job_id: UUID
    agent_id: UUID
    attempt: int
    reason: str
    began: bool = True
    """False: its assignment never reached the agent, so that nothing of it can have happened."""


@dataclass(frozen=True, slots=True)
class JobTimedOut:
    """The attempt ran longer than the job's `timeout` and its agent did not end it."""

    job_id: UUID
    attempt: int
    error: str


@dataclass(frozen=True, slots=True)
class RunCancelRequested:
    """Somebody cancels the whole run."""


@dataclass(frozen=True, slots=True)
class JobCancelRequested:
    """Somebody cancels one job."""

    job_id: UUID


@dataclass(frozen=True, slots=True)
class RunSuperseded:
    """A newer run of the lane passed the gates that this one waits at (spec-execution 9)."""

    by_run_id: UUID
    by_counter: int


@dataclass(frozen=True, slots=True)
class Voter:
    """Who votes at a gate, as the session says: `key` is one per person, empty for an anonymous caller."""

    key: str
    label: str
    names: frozenset[str] = frozenset()
    """The display name and the e-mail address that allow-lists may hold."""
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GateVoted:
    """Somebody approves or rejects a gate."""

    job_id: UUID
    voter: Voter
    approve: bool
    comment: str = ""


@dataclass(frozen=True, slots=True)
class GateExpired:
    """A gate waited longer than its window. `awaiting_since` guards against one that was armed anew."""

    job_id: UUID
    awaiting_since: datetime
    window: str
    """The window as people write it, for example `168h0m0s`."""


@dataclass(frozen=True, slots=True)
class JobRerunRequested:
    """Somebody wants a finished job to run again."""

    job_id: UUID
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class EnvironmentReleased:
    """A freeze of this environment ended: gates behind it have their whole time again (spec-execution 8)."""

    environment: str


@dataclass(frozen=True, slots=True)
class Reached:
    """The run is looked at: stages that have nothing to do are closed."""


Event = (
    JobAssigned
    | AssignmentLost
    | JobRefused
    | JobSkipped
    | JobReported
    | AgentLost
    | JobTimedOut
    | RunCancelRequested
    | JobCancelRequested
    | RunSuperseded
    | GateVoted
    | GateExpired
    | JobRerunRequested
    | EnvironmentReleased
    | Reached
)

# ---- effects: after the commit --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StopJob:
    """Tell the agent to stop this job."""

    run_id: UUID
    job_id: UUID
    agent_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """An attempt ended: its slot is free, its figures are known."""

    job: Job
    agent_id: UUID | None


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Something became possible in this run: dispatch should look at it."""

    run_id: UUID


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run is finished."""

    run_id: UUID
    status: str


@dataclass(frozen=True, slots=True)
class PipelineFree:
    """The slot of a serial pipeline is free again."""

    pipeline_id: UUID


Effect = StopJob | JobEnded | LookAgain | RunEnded | PipelineFree

# ---- consequences: in the same transaction --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartDownstream:
    """A stage closed with success: pipelines with an upstream material on it start (spec-execution 18)."""

    stage: str


@dataclass(frozen=True, slots=True)
class SupersedeOlder:
    """Gates of this run are ready: older runs of the lane that wait for the same environments are superseded.

    An empty set means every environment (spec-execution 9).
    """

    environments: frozenset[str]


@dataclass(frozen=True, slots=True)
class GatePassed:
    """All gates in front of this environment have passed in this run."""

    environment: str


@dataclass(frozen=True, slots=True)
class GatesRearmed:
    """Gates in front of these environments wait again: their marks are void."""

    environments: frozenset[str]


Consequence = StartDownstream | SupersedeOlder | GatePassed | GatesRearmed

# ---- outcome --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a person's wish is not done. `kind` decides the answer: 404, 403, 409 or 422."""

    kind: Literal["not_found", "forbidden", "conflict", "unprocessable"]
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The run after the event. `run is` the one that went in when the event changed nothing."""

    run: Run
    effects: tuple[Effect, ...] = ()
    consequences: tuple[Consequence, ...] = ()
    refused: Refusal | None = None


def refuse(run: Run, kind: Literal["not_found", "forbidden", "conflict", "unprocessable"], text: str) -> Outcome:
    """An outcome that changes nothing and says why."""
    return Outcome(run, refused=Refusal(kind, text))
