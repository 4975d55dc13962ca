"""The pipeline that an importer puts together, before it is text. Values only; `emit` writes it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Service:
    name: str
    image: str
    env: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)


@dataclass
class Job:
    """A job to write. Empty values are not written; `remarks` become comments above it."""

    name: str
    stage: str
    line: int
    image: str = ""
    needs: list[str] = field(default_factory=list)
    script: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    matrix: dict[str, list[str]] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    docker: bool = False
    required: list[str] = field(default_factory=list)
    """Artifacts that must be there, and below those that may."""
    optional: list[str] = field(default_factory=list)
    artifacts_when: str = ""
    expire_in: str = ""
    needs_artifacts: list[dict[str, str]] = field(default_factory=list)
    cache: list[tuple[str, list[str]]] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    id_tokens: dict[str, list[str]] = field(default_factory=dict)
    test_reports: list[str] = field(default_factory=list)
    coverage_report: dict[str, str] = field(default_factory=dict)
    timeout: str = ""
    retry: int = 0
    deploy: str = ""
    environment: str = ""
    approval: str = ""
    """The prompt; a job that has one is a gate."""
    remarks: list[str] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """The job's keys in the order in which people read them."""
        keys: dict[str, object] = {
            "stage": self.stage,
            "image": self.image,
            "tags": self.tags,
            "docker": self.docker,
            "needs": list(dict.fromkeys(self.needs)),
            "needs_artifacts": self.needs_artifacts,
            "parallel": {"matrix": [self.matrix]} if self.matrix else {},
            "variables": self.variables,
            "secrets": list(dict.fromkeys(self.secrets)),
            "id_tokens": {name: {"aud": audiences} for name, audiences in self.id_tokens.items()},
            "timeout": self.timeout,
            "retry": self.retry,
            "approval": {"description": self.approval} if self.approval else {},
            "deploy": {"environment": self.deploy} if self.deploy else {},
            "environment": self.environment,
            "cache": [{"key": key, "paths": paths} for key, paths in self.cache],
            "script": self.script,
            "outputs": self.outputs,
            "artifacts": self._artifacts(),
            "test_reports": self.test_reports,
            "coverage_report": self.coverage_report,
        }
        return {key: value for key, value in keys.items() if value}

    def _artifacts(self) -> dict[str, object]:
        if not self.required and not self.optional:
            return {}
        keys = {
            "paths": self.required,
            "optional": [path for path in self.optional if path not in self.required],
            "when": self.artifacts_when,
            "expire_in": self.expire_in,
        }
        return {key: value for key, value in keys.items() if value}


@dataclass
class Draft:
    """A pipeline to write. `source` says in its first line what it was made from."""

    name: str
    source: str
    title: str = ""
    """The name people see, when it is not that of the file."""
    stages: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    crons: list[str] = field(default_factory=list)
    serial: bool = False
    supersede: str = ""

    def head(self) -> dict[str, object]:
        """Everything but the jobs."""
        used = {job.stage for job in self.jobs}
        when = {"event": self.events, "branch": self.branches, "paths": self.paths}
        keys: dict[str, object] = {
            "name": self.title,
            "concurrency": "serial" if self.serial else "",
            "supersede": self.supersede,
            "when": {key: list(dict.fromkeys(value)) for key, value in when.items() if value},
            "materials": [{"cron": {"expression": expression}} for expression in self.crons],
            "variables": self.variables,
            "services": [_service(service) for service in self.services.values()],
            "stages": [stage for stage in self.stages if stage in used],
        }
        return {key: value for key, value in keys.items() if value}


def _service(service: Service) -> dict[str, object]:
    keys = {"name": service.name, "image": service.image, "env": service.env, "command": service.command}
    return {key: value for key, value in keys.items() if value}
