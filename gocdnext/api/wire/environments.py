"""Environments of projects (spec-execution 10). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Time, Wire


class FreezeBody(Wire):
    """Why an environment is frozen. `user` counts only while authentication is off."""

    reason: str = ""
    user: str | None = None


class Freeze(Wire):
    reason: str
    frozen_by: str
    frozen_at: Time


class EnvironmentVersion(Wire):
    deployment_id: Id
    version: str
    since: Time | None = None


class Environment(Wire):
    name: str
    total_deploys: int
    current: EnvironmentVersion | None = None
    """The newest deployment that succeeded."""
    in_progress: EnvironmentVersion | None = None
    freeze: Freeze | None = None


class Environments(Wire):
    environments: list[Environment]


class Deployment(Wire):
    id: Id
    version: str
    status: str
    is_rollback: bool
    attempt: int
    created_at: Time
    revision: str = ""
    deployed_by: str = ""
    finished_at: Time | None = None
    run_id: Id | None = None
    job_run_id: Id | None = None
    pipeline_name: str = ""
    counter: int = 0


class Deployments(Wire):
    deployments: list[Deployment]
    limit: int
    offset: int


class RollbackBody(Wire):
    """Which deployment to make again; without one the newest that succeeded."""

    deployment_id: str | None = None


class Redeployed(Wire):
    job_run_id: Id
    run_id: Id
    attempt: int
    is_rollback: bool
