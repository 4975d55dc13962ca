"""What a pipeline may say that this version does not do: refused where it would hang or lie, else told. Pure.

One list each; whoever builds a feature deletes its entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gocdnext.pipeline.model import CronMaterial, Job, Material, Pipeline

_REFUSED_IN_JOBS: Final[tuple[tuple[str, Callable[[Job], object]], ...]] = (
    ("`id_tokens` are", lambda job: job.id_tokens),
    ("`cluster` is", lambda job: job.cluster),
    ("a runner profile (`agent.profile`) is", lambda job: job.profile),
)
_NOT_YET: Final[tuple[tuple[str, Callable[[Pipeline], object]], ...]] = (
    ("cron materials are stored but start no runs", lambda p: _has(p, CronMaterial)),
)


def refused(pipeline: Pipeline) -> list[str]:
    """Why the pipeline cannot be run by this version: one sentence per job and feature, without the file's name."""
    return [
        f'job "{job.name}": {feature} not available in this version; remove it or upgrade'
        for job in pipeline.jobs
        for feature, used in _REFUSED_IN_JOBS
        if used(job)
    ]


def not_yet(pipeline: Pipeline) -> list[str]:
    """What is stored and has no effect yet: one sentence each."""
    return [f'pipeline "{pipeline.name}": {what} in this version' for what, used in _NOT_YET if used(pipeline)]


def _has(pipeline: Pipeline, kind: type[Material]) -> bool:
    return any(isinstance(material, kind) for material in pipeline.materials)
