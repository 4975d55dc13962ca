"""What an agent is told of a job: frozen values, built from the run's own snapshot (protocol-agent 2.10). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from gocdnext.pipeline.model import Job


@dataclass(frozen=True, slots=True)
class Checkout:
    """One git material to check out into `target_dir`."""

    material_id: UUID
    url: str
    revision: str
    branch: str
    target_dir: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt of one job, complete and resolved."""

    run_id: UUID
    job_id: UUID
    attempt: int
    definition: Job
    """The job's normal form: name, image, script or plugin, artifacts, caches, reports, timeout."""
    env: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)
    """The plugin's settings after substitution."""
    checkouts: tuple[Checkout, ...] = ()
    masks: tuple[str, ...] = ()
    service_generation: int = 0
