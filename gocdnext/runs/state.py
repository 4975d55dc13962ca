"""A run as frozen values: what `transitions` and `dispatch` decide on, and what `store` loads and saves.

Pure: no I/O, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from gocdnext.pipeline import model
from gocdnext.pipeline.model import Notification, Pipeline

QUEUED: Final = "queued"
RUNNING: Final = "running"
AWAITING: Final = "awaiting_approval"
SUCCESS: Final = "success"
FAILED: Final = "failed"
CANCELED: Final = "canceled"
SKIPPED: Final = "skipped"

OPEN: Final = frozenset({QUEUED, RUNNING})
"""States of runs and stages that are not finished."""
OPEN_JOB: Final = frozenset({QUEUED, RUNNING, AWAITING})
TERMINAL_JOB: Final = frozenset({SUCCESS, FAILED, CANCELED, SKIPPED})

NOTIFICATIONS_STAGE: Final = "_notifications"
NOTIFY_PREFIX: Final = "_notify_"
APPROVED: Final = "approved"
REJECTED: Final = "rejected"
EXPIRED: Final = "expired"
MAX_LOSSES: Final = 3
"""Lost agents after which a job is repeated; the next loss fails it: four executions (spec-execution 14)."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What one person said at a gate; the first vote of a person stays."""

    key: str
    label: str
    decision: str
    comment: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Gate:
    """The approval part of a job: who may decide, how many must, and what was decided."""

    awaiting_since: datetime
    required: int = 1
    """The effective quorum, fixed at creation (contract-runs 4.3)."""
    quorum_label: str | None = None
    approvers: tuple[str, ...] = ()
    approver_groups: tuple[str, ...] = ()
    description: str = ""
    votes: tuple[Vote, ...] = ()
    decision: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None

    @property
    def approvals(self) -> int:
        """Approvals so far."""
        return sum(vote.decision == APPROVED for vote in self.votes)


@dataclass(frozen=True, slots=True)
class Job:
    """One job_run row: a job of the definition, or one instance of its matrix."""

    id: UUID
    stage_id: UUID
    name: str
    matrix_key: str = ""
    status: str = QUEUED
    needs: tuple[str, ...] = ()
    attempt: int = 0
    losses: int = 0
    """How often an agent was lost with it since a person started it; at most MAX_LOSSES are repeated."""
    retries: int = 0
    """How often it was repeated because it failed (`retry:` of the file) since a person started it."""
    timeout_seconds: int = 0
    retry_unsafe: bool = False
    rollback: bool = False
    gate: Gate | None = None
    agent_id: UUID | None = None
    exit_code: int | None = None
    error: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    cancel_requested_at: datetime | None = None
    cancel_origin: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def label(self) -> str:
        """The name people know the instance by: `unit` or `unit[DB=pg]`."""
        return f"{self.name}[{self.matrix_key}]" if self.matrix_key else self.name


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage_run row."""

    id: UUID
    name: str
    ordinal: int
    status: str = QUEUED
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """What a run checks out of one material."""

    revision: str
    branch: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A ready artifact that jobs of the run may fetch."""

    job: str
    path: str
    storage_key: str
    sha256: str
    pipeline: str = ""
    """The pipeline of the upstream run that made it; empty for the run's own."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run with its stages (by ordinal) and jobs (by stage, name, matrix key), and the definition it was made from."""

    id: UUID
    pipeline_id: UUID
    project_id: UUID
    project_slug: str
    counter: int
    cause: str
    definition: Pipeline
    version: int = 0
    """Raised by every saved change."""
    cause_detail: Mapping[str, object] = field(default_factory=dict)
    status: str = QUEUED
    queue_reason: str | None = None
    cancel_reason: str | None = None
    superseded_by: UUID | None = None
    triggered_by: str = ""
    ref: str = ""
    """The lane that `supersede: branch` compares."""
    notifications: tuple[Notification, ...] = ()
    """The effective list: the pipeline's own, or the project's at creation (design 9, decision 1)."""
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    service_generation: int = 0
    serial_holder: UUID | None = None
    """Another run that has a serial pipeline's only slot now; None when this run may start."""
    frozen: frozenset[str] = frozenset()
    """Environments of the project that are frozen now."""
    passed_by_newer: frozenset[str] = frozenset()
    """Environments whose gates a newer run of the lane has passed."""
    artifacts: tuple[Artifact, ...] = ()
    """What its jobs and the run that started it have delivered, by job and path; only where a job fetches artifacts."""
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stages: tuple[Stage, ...] = ()
    jobs: tuple[Job, ...] = ()

    def job(self, job_id: UUID) -> Job | None:
        """The job of that id, or None."""
        # By number: a run may have thousands of jobs, and comparing UUID objects costs several times as much.
        wanted = job_id.int
        return next((job for job in self.jobs if job.id.int == wanted), None)

    def stage(self, stage_id: UUID) -> Stage:
        """The stage of that id. Raises KeyError for a stage of another run."""
        for stage in self.stages:
            if stage.id == stage_id:
                return stage
        raise KeyError(stage_id)

    def jobs_of(self, stage: Stage) -> tuple[Job, ...]:
        """The jobs of one stage."""
        wanted = stage.id.int
        return tuple(job for job in self.jobs if job.stage_id.int == wanted)

    def is_open(self, stage: Stage) -> bool:
        """Whether a job of the stage is not finished."""
        wanted = stage.id.int
        return any(job.status in OPEN_JOB and job.stage_id.int == wanted for job in self.jobs)

    def with_jobs(self, *changed: Job) -> Run:
        """The same run with these jobs in place of those with the same ids."""
        if not changed:
            return self
        by_id = {job.id.int: job for job in changed}
        return replace(self, jobs=tuple(by_id.get(job.id.int, job) for job in self.jobs))

    def with_stages(self, *changed: Stage) -> Run:
        """The same run with these stages in place of those with the same ids."""
        if not changed:
            return self
        by_id = {stage.id: stage for stage in changed}
        return replace(self, stages=tuple(by_id.get(stage.id, stage) for stage in self.stages))

    @property
    def user_jobs(self) -> tuple[Job, ...]:
        """All jobs but notifications: what the run's status follows from."""
        hidden = {stage.id.int for stage in self.stages if stage.name == NOTIFICATIONS_STAGE}
        return tuple(job for job in self.jobs if job.stage_id.int not in hidden) if hidden else self.jobs

    @property
    def from_fork(self) -> bool:
        """Whether it runs what somebody proposes from another repository, or follows from that: it gets no secrets and
        writes no caches."""
        return self.cause_detail.get("from_fork") is True

    @property
    def asks_for_secrets(self) -> bool:
        """Whether any job or notification names a secret or a runner profile, or asks for an identity token: then it is
        only dispatched with these at hand."""
        return any(job.secrets or job.profile or job.id_tokens for job in self.definition.jobs) or any(
            entry.secrets for entry in self.notifications
        )

    def definition_of(self, job: Job) -> model.Job | None:
        """What the run's own snapshot says of a job; None for one that it does not know."""
        if job.name.startswith(NOTIFY_PREFIX) and self.stage(job.stage_id).name == NOTIFICATIONS_STAGE:
            return self._notification(job)
        return self.definition.job(job.name)

    def _notification(self, job: Job) -> model.Job | None:
        number = job.name.removeprefix(NOTIFY_PREFIX)
        if not number.isdigit() or int(number) >= len(self.notifications):
            return None
        entry = self.notifications[int(number)]
        plugin = model.Plugin(image=entry.uses, settings=entry.with_)
        return model.Job(name=job.name, stage=NOTIFICATIONS_STAGE, kind="plugin", plugin=plugin, secrets=entry.secrets)

    @property
    def active_stage(self) -> Stage | None:
        """The open stage with the lowest ordinal: the barrier of spec-execution 5."""
        return next((stage for stage in self.stages if stage.status in OPEN), None)
