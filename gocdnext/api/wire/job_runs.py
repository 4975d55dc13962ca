"""What is asked of one job, and the answers (contract-runs 4). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Wire


class CancelledJob(Wire):
    """The 202 of a job cancel (4.1)."""

    job_run_id: Id
    run_id: Id
    job_name: str
    status: str
    signaled: bool


class RerunJob(Wire):
    """The 202 of a job's rerun (4.2)."""

    job_run_id: Id
    run_id: Id
    attempt: int


class VoteBody(Wire):
    """The optional body of an approval or rejection (4.3). `user` counts only while authentication is off."""

    comment: str | None = None
    user: str | None = None


class GateAnswer(Wire):
    """The 202 of an approval or rejection (4.3)."""

    job_run_id: Id
    run_id: Id
    stage_completed: bool
    stage_status: str
    run_completed: bool
    run_status: str
    pending_quorum: bool
    approvals_now: int
    approvals_required: int
