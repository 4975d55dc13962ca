"""Projects as clients read them (contract-runs 2). No logic here."""

from __future__ import annotations

from typing import Annotated

import msgspec

from gocdnext.api.wire.base import Id, Time, Wire
from gocdnext.api.wire.forges import WebhookResult
from gocdnext.api.wire.runs import RunSummary

PipelineFile = Annotated[str, msgspec.Meta(extra_json_schema={"contentMediaType": "application/yaml"})]


class Label(Wire):
    key: str
    value: str


class JobRunLite(Wire):
    id: Id
    name: str
    status: str
    started_at: Time | None = None
    finished_at: Time | None = None
    held_by_freeze: bool = False
    frozen_envs: list[str] = []


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
    poll_interval_ns: int = 0
    last_synced_at: Time | None = None
    """Since when the configuration of `last_synced_revision` is in force, if it came from the repository."""
    last_synced_revision: str = ""
    sync_error: str = ""
    """Why the configuration that the repository has now is not in force."""


class PollIntervalBody(Wire):
    interval: str
    """A Go duration; empty: no polling."""


class PollInterval(Wire):
    interval: str
    enabled: bool


class DefinitionJob(Wire):
    name: str
    stage: str
    approval_gate: bool = False


class Edge(Wire):
    from_pipeline: str
    to_pipeline: str
    stage: str = ""
    status: str = ""


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


class ApplyForm(Wire):
    """An apply as a form: each pipeline file is a part with a file name, whatever the part is called."""

    slug: str
    name: str = ""
    description: str = ""
    config_repo: str = ""
    config_path: str = ""
    metadata: str = ""
    """JSON with the fields above, in place of parts of their own."""
    scm_source: str = ""
    """JSON with the repository to bind."""
    files: list[PipelineFile] = []


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
    generated_webhook_secret: str = ""
    """Told once, when it was made."""


class Applied(Wire):
    project_id: Id
    project_slug: str
    project_created: bool
    pipelines: list[AppliedPipeline]
    pipelines_applied: int
    pipelines_removed: list[str]
    scm_source: AppliedScmSource | None = None
    webhooks: list[WebhookResult] = []
    """What became of the hook at the provider, where the server registers hooks."""
    warnings: list[str] = []


class Synced(Applied, kw_only=True):
    """What a sync did (2.5)."""

    materials_polled: int
    runs: list[Id]
    """Started by heads that nobody knew."""
    revision: str = ""
    """The commit that the configuration was read from."""
    errors: list[str] = []
    """Of materials; the others were looked at."""


class PrHeadConfigBody(Wire, forbid_unknown_fields=True):
    enabled: bool | None = None


class PrHeadConfig(Wire):
    enabled: bool


class DeletedProject(Wire):
    """How much went with a project (2.6)."""

    slug: str
    pipelines_deleted: int
    runs_deleted: int
    secrets_deleted: int
    scm_sources_deleted: int


class Fired(Wire):
    """What became of one pipeline when all were started: a run, or why there is none."""

    pipeline_id: Id
    run_id: Id | None = None
    error: str = ""


class RunAll(Wire):
    """The 202 of starting all pipelines (2.7)."""

    results: list[Fired]
    run_ids: list[Id]
