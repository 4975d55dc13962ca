"""The message types of the API (contract-runs): what clients read, field by field.

`omit_defaults` is the contract's "absent when empty": a field without a default is always there. No logic here.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gocdnext.pipeline.problems import Problem

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339 in UTC, zeros at the end of the fraction dropped (contract-runs 0.3)."""
Id = Annotated[str, msgspec.Meta(extra_json_schema={"format": "uuid"})]


class Wire(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Base of every message."""


class Error(Wire):
    """The body of every answer with a status of 400 or more (0.2)."""

    error: str
    code: str = ""
    errors: list[Problem] = []
    """Every problem of the pipeline files, where that is what is wrong; `error` is the first."""


# Projects (2)


class Label(Wire):
    key: str
    value: str


class JobRunLite(Wire):
    id: Id
    name: str
    status: str
    started_at: Time | None = None
    finished_at: Time | None = None


class StageRunSummary(Wire):
    id: Id
    name: str
    ordinal: int
    status: str
    started_at: Time | None = None
    finished_at: Time | None = None
    jobs: list[JobRunLite] | None = None


class StageStat(Wire):
    name: str
    runs_considered: int
    success_rate: float
    duration_p50_seconds: float
    duration_p95_seconds: float


class PipelineMetrics(Wire):
    window_days: int
    runs_considered: int
    success_rate: float
    lead_time_p50_seconds: float
    process_time_p50_seconds: float
    stage_stats: list[StageStat] = []


class RunMeta(Wire):
    revision: str = ""
    branch: str = ""
    message: str = ""
    author: str = ""
    triggered_by: str = ""
    cause: str = ""
    pr_number: int = 0


class PipelinePreview(Wire):
    id: Id
    name: str
    latest_run_status: str = ""
    latest_run_at: Time | None = None
    definition_stages: list[str] = []
    latest_run_stages: list[StageRunSummary] = []


class ProjectSummary(Wire):
    id: Id
    slug: str
    name: str
    created_at: Time
    updated_at: Time
    pipeline_count: int
    run_count: int
    status: str
    labels: list[Label]
    description: str = ""
    config_path: str = ""
    latest_run_at: Time | None = None
    provider: str = ""
    top_pipelines: list[PipelinePreview] = []
    metrics: PipelineMetrics | None = None
    latest_run_meta: RunMeta | None = None


class Projects(Wire):
    projects: list[ProjectSummary]


class ScmInfo(Wire):
    id: Id
    provider: str
    url: str
    default_branch: str
    auth_ref: str = ""


class DefinitionJob(Wire):
    name: str
    stage: str
    approval_gate: bool = False


class Edge(Wire):
    from_pipeline: str
    to_pipeline: str
    stage: str = ""
    status: str = ""


class RunSummary(Wire):
    id: Id
    pipeline_id: Id
    pipeline_name: str
    counter: int
    cause: str
    status: str
    has_services: bool
    service_names: list[str]
    created_at: Time
    queue_reason: str = ""
    cancel_reason: str = ""
    superseded_by: Id | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    triggered_by: str = ""


class PipelineSummary(Wire):
    id: Id
    name: str
    definition_version: int
    updated_at: Time
    definition_stages: list[str] = []
    definition_jobs: list[DefinitionJob] = []
    latest_run: RunSummary | None = None
    latest_run_stages: list[StageRunSummary] = []
    metrics: PipelineMetrics | None = None
    latest_run_meta: RunMeta | None = None


class ProjectDetail(Wire):
    project: ProjectSummary
    pipelines: list[PipelineSummary]
    runs: list[RunSummary]
    scm_source: ScmInfo | None = None
    edges: list[Edge] = []


class AppliedPipeline(Wire):
    name: str
    pipeline_id: Id
    created: bool
    materials_added: int
    materials_removed: int


class AppliedScmSource(Wire):
    id: Id
    provider: str
    url: str
    default_branch: str
    created: bool


class Applied(Wire):
    project_id: Id
    project_slug: str
    project_created: bool
    pipelines: list[AppliedPipeline]
    pipelines_applied: int
    pipelines_removed: list[str]
    scm_source: AppliedScmSource | None = None
    warnings: list[str] = []


# Runs (3)


class GlobalRun(RunSummary, kw_only=True):
    project_id: Id
    project_slug: str
    project_name: str


class Runs(Wire):
    runs: list[GlobalRun]
    total: int
    limit: int
    offset: int


class LogLine(Wire):
    seq: int
    stream: str
    at: Time
    text: str


class GateVote(Wire):
    user_label: str
    decision: str
    decided_at: Time
    comment: str | None = None


class Waiting(Wire):
    """Why something waits: `code` for programs, `text` for people, `detail` names what is waited for. Ours."""

    code: str
    text: str
    detail: str = ""


class JobDetail(Wire):
    id: Id
    stage_run_id: Id
    name: str
    status: str
    attempt: int
    approval_required: int
    matrix_key: str = ""
    image: str | None = None
    exit_code: int | None = None
    error: str | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    agent_id: Id | None = None
    cancel_requested_at: Time | None = None
    approval_gate: bool = False
    approvers: list[str] | None = None
    approver_groups: list[str] | None = None
    approvals: list[GateVote] | None = None
    approval_description: str | None = None
    approval_quorum_label: str | None = None
    awaiting_since: Time | None = None
    decided_at: Time | None = None
    decided_by: str | None = None
    decision: str | None = None
    notify_on: str | None = None
    notify_uses: str | None = None
    waiting: Waiting | None = None
    logs: list[LogLine] = []
    logs_head: list[LogLine] = []
    logs_omitted: int | None = None
    logs_total: int = 0


class StageDetail(Wire):
    id: Id
    name: str
    ordinal: int
    status: str
    jobs: list[JobDetail]
    started_at: Time | None = None
    finished_at: Time | None = None


class RunDetail(RunSummary, kw_only=True):
    project_slug: str
    check_reporting_mode: str
    revisions: dict[str, Any]
    stages: list[StageDetail]
    cause_detail: dict[str, Any] = {}
    waiting: Waiting | None = None


class CancelledJob(Wire):
    """The 202 of a job cancel (4.1)."""

    job_run_id: Id
    run_id: Id
    job_name: str
    status: str
    signaled: bool


class RerunBody(Wire):
    """The optional body of a rerun (3.10, 4.2)."""

    triggered_by: str | None = None


class Rerun(Wire):
    """The 202 of a run's rerun (3.10)."""

    id: Id
    run_id: Id
    counter: int
    rerun_of: Id


class RerunJob(Wire):
    """The 202 of a job's rerun (4.2)."""

    job_run_id: Id
    run_id: Id
    attempt: int


class VoteBody(Wire):
    """The optional body of an approval or rejection (4.3). `user` counts only while authentication is off."""

    comment: str | None = None
    user: str | None = None


class GateAnswer(Wire):
    """The 202 of an approval or rejection (4.3)."""

    job_run_id: Id
    run_id: Id
    stage_completed: bool
    stage_status: str
    run_completed: bool
    run_status: str
    pending_quorum: bool
    approvals_now: int
    approvals_required: int


class Artifact(Wire):
    """One artifact of a run (3.6); the link is there when there is something behind it."""

    id: Id
    job_run_id: Id
    job_name: str
    path: str
    status: str
    size_bytes: int
    content_sha256: str
    created_at: Time
    expires_at: Time | None = None
    download_url: str | None = None
    download_url_expires_at: Time | None = None


# Pipelines (5)


class PipelineYaml(Wire):
    yaml: str
    reconstructed: bool


class TriggerBody(Wire):
    """What the caller of a trigger may say; other keys are ignored."""

    triggered_by: str | None = None


class Triggered(Wire):
    id: Id
    run_id: Id
    counter: int
    pipeline_id: Id


# Agents (8.2)


class Agent(Wire):
    id: Id
    name: str
    tags: list[str]
    capacity: int
    status: str
    health_state: str
    registered_at: Time
    running_jobs: int
    version: str = ""
    os: str = ""
    arch: str = ""
    last_seen_at: Time | None = None


class Agents(Wire):
    agents: list[Agent]


class AgentJob(Wire):
    job_run_id: Id
    job_name: str
    job_status: str
    run_id: Id
    run_counter: int
    pipeline_name: str
    project_id: Id
    project_slug: str
    project_name: str
    started_at: Time | None = None
    finished_at: Time | None = None
    exit_code: int | None = None


class AgentDetail(Wire):
    agent: Agent
    jobs: list[AgentJob]


# Plugins (7)


class PluginInput(Wire):
    name: str
    required: bool
    default: str = ""
    description: str = ""


class PluginExample(Wire):
    yaml: str
    name: str = ""
    description: str = ""


class Plugin(Wire):
    name: str
    inputs: list[PluginInput]
    description: str = ""
    category: str = ""
    examples: list[PluginExample] = []


class Plugins(Wire):
    plugins: list[Plugin]


# Health (10)


class Health(Wire):
    status: str


class Version(Wire):
    version: str
    commit: str
    build_date: str


# Secrets (contract-admin 5)


class SecretRef(Wire):
    path: str | None = None
    key: str | None = None


class Secret(Wire):
    name: str
    source: str
    created_at: Time
    updated_at: Time
    ref: SecretRef | None = None


class Secrets(Wire):
    secrets: list[Secret]
    total: int
    limit: int
    offset: int
    configured_sources: list[str]
    inherited: list[Secret] = []


class SecretBody(Wire):
    name: str = ""
    value: str | None = None
    source: str | None = None
    ref: SecretRef | None = None


class SecretSet(Wire):
    name: str
    created: bool
