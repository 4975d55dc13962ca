"""Runs with their stages, jobs and log lines (contract-runs 3). No logic here."""

from __future__ import annotations

from typing import Any

from gocdnext.api.wire.base import Id, Time, Wire


class Waiting(Wire):
    """Why something waits: `code` for programs, `text` for people, `detail` names what is waited for."""

    code: str
    text: str
    detail: str = ""


class RunSummary(Wire):
    id: Id
    pipeline_id: Id
    pipeline_name: str
    counter: int
    cause: str
    status: str
    has_services: bool
    service_names: list[str]
    created_at: Time
    queue_reason: str = ""
    cancel_reason: str = ""
    superseded_by: Id | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    triggered_by: str = ""
    waiting: Waiting | None = None


class GlobalRun(RunSummary, kw_only=True):
    project_id: Id
    project_slug: str
    project_name: str


class Runs(Wire):
    runs: list[GlobalRun]
    total: int
    limit: int
    offset: int


class LogLine(Wire):
    seq: int
    stream: str
    at: Time
    text: str


class GateVote(Wire):
    user_label: str
    decision: str
    decided_at: Time
    comment: str | None = None


class JobDetail(Wire):
    id: Id
    stage_run_id: Id
    name: str
    status: str
    attempt: int
    approval_required: int
    matrix_key: str = ""
    image: str | None = None
    exit_code: int | None = None
    error: str | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    agent_id: Id | None = None
    cancel_requested_at: Time | None = None
    approval_gate: bool = False
    approvers: list[str] | None = None
    approver_groups: list[str] | None = None
    approvals: list[GateVote] | None = None
    approval_description: str | None = None
    approval_quorum_label: str | None = None
    awaiting_since: Time | None = None
    decided_at: Time | None = None
    decided_by: str | None = None
    decision: str | None = None
    held_by_freeze: bool = False
    frozen_envs: list[str] = []
    notify_on: str | None = None
    notify_uses: str | None = None
    waiting: Waiting | None = None
    logs: list[LogLine] = []
    logs_head: list[LogLine] = []
    logs_omitted: int | None = None
    logs_total: int = 0


class StageDetail(Wire):
    id: Id
    name: str
    ordinal: int
    status: str
    jobs: list[JobDetail]
    started_at: Time | None = None
    finished_at: Time | None = None


class RunDetail(RunSummary, kw_only=True):
    project_slug: str
    check_reporting_mode: str
    revisions: dict[str, Any]
    stages: list[StageDetail]
    cause_detail: dict[str, Any] = {}


class RerunBody(Wire):
    """The optional body of a rerun (3.10, 4.2)."""

    triggered_by: str | None = None


class Rerun(Wire):
    """The 202 of a run's rerun (3.10)."""

    id: Id
    run_id: Id
    counter: int
    rerun_of: Id


class Artifact(Wire):
    """One artifact of a run (3.6); the link is there when there is something behind it."""

    id: Id
    job_run_id: Id
    job_name: str
    path: str
    status: str
    size_bytes: int
    content_sha256: str
    created_at: Time
    expires_at: Time | None = None
    pinned_at: Time | None = None
    """Somebody wants it kept, whatever the time and the limits say."""
    download_url: str | None = None
    download_url_expires_at: Time | None = None
