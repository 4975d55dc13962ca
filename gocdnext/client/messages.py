"""The API's own JSON, as far as keys of it are read here. No logic here."""

from __future__ import annotations

from typing import TypedDict


class Job(TypedDict, total=False):
    """`JobDetail` of contract-runs 3.2, the keys that are read here."""

    id: str
    name: str
    matrix_key: str
    status: str
    exit_code: int
    error: str
    started_at: str
    finished_at: str
    attempt: int
    logs: list[LogLine]
    logs_total: int


class LogLine(TypedDict, total=False):
    seq: int
    stream: str
    at: str
    text: str


class Stage(TypedDict, total=False):
    id: str
    name: str
    status: str
    started_at: str
    finished_at: str
    jobs: list[Job]


class Run(TypedDict, total=False):
    """`RunSummary`, and what `GlobalRun` and `RunDetail` add (contract-runs 2.2, 3.1, 3.2)."""

    id: str
    pipeline_id: str
    pipeline_name: str
    project_slug: str
    counter: int
    cause: str
    status: str
    queue_reason: str
    cancel_reason: str
    created_at: str
    started_at: str
    finished_at: str
    triggered_by: str
    waiting: dict[str, str]
    stages: list[Stage]
    revisions: dict[str, dict[str, str]]


class Artifact(TypedDict, total=False):
    """One artifact of a run (3.6). The link is there when it is `ready`."""

    id: str
    job_name: str
    path: str
    status: str
    size_bytes: int
    content_sha256: str
    created_at: str
    expires_at: str
    pinned_at: str
    download_url: str


class RunPage(TypedDict):
    runs: list[Run]
    total: int
    limit: int
    offset: int
