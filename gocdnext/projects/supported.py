"""What a pipeline may say that this version does not do: refused, because it would hang or lie. Pure.

One list; whoever builds a feature deletes its entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gocdnext.pipeline.model import Job, Pipeline

_REFUSED_IN_JOBS: Final[tuple[tuple[str, Callable[[Job], object]], ...]] = (("`cluster` is", lambda job: job.cluster),)


def refused(pipeline: Pipeline) -> list[str]:
    """Why the pipeline cannot be run by this version: one sentence per job and feature, without the file's name."""
    return [
        f'job "{job.name}": {feature} not available in this version; remove it or upgrade'
        for job in pipeline.jobs
        for feature, used in _REFUSED_IN_JOBS
        if used(job)
    ]
