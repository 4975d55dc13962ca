"""The normal form of a pipeline: what a file means after reading, inheritance and checks.

Frozen values only. This is the stored definition, the snapshot of a run, and the answer of `explain`;
encoding one with `msgspec.json` gives exactly the normal form of the pipeline vectors: keys with an empty
value are absent, except those that have no default here. Nothing in this module reads YAML or does I/O.
"""

from __future__ import annotations

from typing import Literal

import msgspec

JobKind = Literal["script", "plugin", "gate", "noop"]


class Struct(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of every part of the normal form."""


class GitMaterial(Struct, frozen=True, tag_field="type", tag="git"):
    fingerprint: str
    url: str
    branch: str
    events: tuple[str, ...]
    auto_register_webhook: bool = False
    secret_ref: str = ""
    poll_seconds: int = 0
    paths: tuple[str, ...] = ()
    """Only on implicit materials: `when.paths` of the pipeline (spec-pipelines 9.3)."""
    implicit: bool = False


class UpstreamMaterial(Struct, frozen=True, tag_field="type", tag="upstream"):
    fingerprint: str
    pipeline: str
    stage: str
    status: str


class CronMaterial(Struct, frozen=True, tag_field="type", tag="cron"):
    fingerprint: str
    expression: str


class ManualMaterial(Struct, frozen=True, tag_field="type", tag="manual"):
    fingerprint: str


Material = GitMaterial | UpstreamMaterial | CronMaterial | ManualMaterial


class When(Struct, frozen=True):
    events: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


NO_WHEN = When()
"""msgspec leaves a default out when the value is the very object, hence one object for each kind of nothing."""


class Toleration(Struct, frozen=True):
    operator: str
    key: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class Service(Struct, frozen=True):
    name: str
    image: str
    env: dict[str, str] = {}
    command: tuple[str, ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


class Notification(Struct, frozen=True):
    on: str
    uses: str
    with_: dict[str, str] = msgspec.field(default_factory=dict, name="with")
    secrets: tuple[str, ...] = ()


class Plugin(Struct, frozen=True):
    image: str
    settings: dict[str, str] = {}


class ResourceValues(Struct, frozen=True):
    cpu: str = ""
    memory: str = ""


NO_VALUES = ResourceValues()


class Resources(Struct, frozen=True):
    requests: ResourceValues = NO_VALUES
    limits: ResourceValues = NO_VALUES


NO_RESOURCES = Resources()
NO_THRESHOLD = 0.0


class Artifacts(Struct, frozen=True):
    when: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    expire_in_seconds: int = 0


class Cache(Struct, frozen=True):
    key: str
    paths: tuple[str, ...]


class NeedsArtifacts(Struct, frozen=True):
    from_job: str
    from_pipeline: str = ""
    paths: tuple[str, ...] = ()
    dest: str = ""


class Output(Struct, frozen=True):
    env: str
    masked: bool


class CoverageReport(Struct, frozen=True):
    path: str
    format: str
    fail_under: float = NO_THRESHOLD


class DeployTarget(Struct, frozen=True):
    cluster: str
    application: str
    sync_mode: str
    namespace: str = ""


class Deploy(Struct, frozen=True):
    environment: str
    version: str = ""
    revision: str = ""
    target: DeployTarget | None = None


class Approval(Struct, frozen=True):
    required: int
    timeout: int | Literal["inherit", "never"]
    """Seconds, or one of the two words (spec-pipelines 3.13)."""
    approvers: tuple[str, ...] = ()
    approver_groups: tuple[str, ...] = ()
    quorum_by_label: dict[str, int] = {}
    description: str = ""


class Job(Struct, frozen=True):
    name: str
    stage: str
    kind: JobKind
    image: str = ""
    script: str = ""
    plugin: Plugin | None = None
    needs: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    profile: str = ""
    docker: bool = False
    cluster: str = ""
    resources: Resources = NO_RESOURCES
    instances: tuple[str, ...] = ()
    """Matrix keys `D1=v1,D2=v2` in creation order; empty for a job without a matrix."""
    timeout_seconds: int = 0
    """0 = no limit (design 9, decision 11)."""
    retry: int = 0
    artifacts: Artifacts | None = None
    cache: tuple[Cache, ...] = ()
    needs_artifacts: tuple[NeedsArtifacts, ...] = ()
    test_reports: tuple[str, ...] = ()
    coverage_report: CoverageReport | None = None
    outputs: dict[str, Output] = {}
    id_tokens: dict[str, tuple[str, ...]] = {}
    deploy: Deploy | None = None
    environment: str = ""
    approval: Approval | None = None


class Pipeline(Struct, frozen=True):
    name: str
    stages: tuple[str, ...]
    jobs: tuple[Job, ...]
    """Sorted by stage position, then by name; hidden jobs are gone, `extends` is resolved."""
    concurrency: str = ""
    supersede: str = ""
    template: str = ""
    variables: dict[str, str] = {}
    when: When = NO_WHEN
    materials: tuple[Material, ...] = ()
    services: tuple[Service, ...] = ()
    notifications: tuple[Notification, ...] | None = None
    """None = inherit the project's list; an empty tuple is an explicit opt-out."""

    def job(self, name: str) -> Job | None:
        """The job of that name, or None."""
        return next((job for job in self.jobs if job.name == name), None)


def encode(pipeline: Pipeline) -> bytes:
    """The normal form as JSON bytes; the same pipeline always gives the same bytes."""
    return _ENCODER.encode(pipeline)


def decode(data: bytes | str) -> Pipeline:
    """The pipeline of `encode`d bytes. Raises `msgspec.DecodeError` for anything else."""
    return _DECODER.decode(data)


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(Pipeline)
