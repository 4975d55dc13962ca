"""The value stream of a project as clients read it (contract-runs 2.3). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Time, Wire
from gocdnext.api.wire.projects import PipelineMetrics
from gocdnext.api.wire.runs import RunSummary


class GitMaterial(Wire):
    url: str
    branch: str = ""


class VsmNode(Wire):
    """A pipeline in the value stream."""

    pipeline_id: Id
    name: str
    definition_version: int
    has_services: bool
    git_materials: list[GitMaterial] = []
    latest_run: RunSummary | None = None
    metrics: PipelineMetrics | None = None


class VsmEdge(Wire):
    """What starts a pipeline, and how long the run that it started waited for its start."""

    from_pipeline: str
    to_pipeline: str
    stage: str
    status: str = ""
    wait_time_p50_seconds: float | None = None
    wait_samples: int = 0


class ValueStream(Wire):
    project_id: Id
    project_slug: str
    project_name: str
    nodes: list[VsmNode]
    edges: list[VsmEdge]
    generated_at: Time
