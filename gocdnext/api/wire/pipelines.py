"""Pipelines (contract-runs 5). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Wire


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
