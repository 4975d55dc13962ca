"""`/api/v1/job_runs`: cancel, rerun, approve and reject of one job (contract-runs 4)."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, Response, g

from gocdnext.api import params, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.auth.identity import Subject
from gocdnext.runs.events import Voter

blueprint = Blueprint("job_runs", __name__)

MAX_COMMENT = 4000
"""Characters of a reviewer's note that are kept."""
MAX_USER = 320


@route(
    blueprint,
    "POST",
    "/api/v1/job_runs/<job_id>/cancel",
    Audited("job.cancel", "job_run", "{job_id}"),
    described=Description(gives=wire.CancelledJob, status=202, fails=frozenset({409})),
)
async def cancel_job(job_id: str) -> Response:
    """Cancels a queued job, or tells the agent of a running one to stop."""
    done = await services().runs.cancel_job(_job_id(job_id))
    note(
        run_id=str(done.run_id),
        job_name=done.job_name,
        signaled=done.signaled,
        deferred=done.status == "canceling" and not done.signaled,
    )
    message = wire.CancelledJob(
        job_run_id=str(done.job_run_id),
        run_id=str(done.run_id),
        job_name=done.job_name,
        status=done.status,
        signaled=done.signaled,
    )
    return answer(message, 202)


@route(
    blueprint,
    "POST",
    "/api/v1/job_runs/<job_id>/rerun",
    Audited("job.rerun", "job_run", "{job_id}"),
    described=Description(takes=wire.RerunBody, optional=True, gives=wire.RerunJob, status=202, fails=frozenset({409})),
)
async def rerun_job(job_id: str) -> Response:
    """Runs a finished job again, as its next attempt."""
    job = _job_id(job_id)
    await params.optional_body(wire.RerunBody)
    done = await services().runs.rerun_job(job)
    note(run_id=str(done.run_id), attempt=done.attempt)
    return answer(wire.RerunJob(job_run_id=str(job), run_id=str(done.run_id), attempt=done.attempt), 202)


@route(
    blueprint,
    "POST",
    "/api/v1/job_runs/<job_id>/approve",
    Audited("approval.approve", "job_run", "{job_id}"),
    described=Description(
        takes=wire.VoteBody, optional=True, gives=wire.GateAnswer, status=202, fails=frozenset({409, 422})
    ),
)
async def approve(job_id: str) -> Response:
    """Counts the caller's approval of a gate; the last one that is needed opens it."""
    return await _vote(job_id, approve=True)


@route(
    blueprint,
    "POST",
    "/api/v1/job_runs/<job_id>/reject",
    Audited("approval.reject", "job_run", "{job_id}"),
    described=Description(
        takes=wire.VoteBody, optional=True, gives=wire.GateAnswer, status=202, fails=frozenset({409, 422})
    ),
)
async def reject(job_id: str) -> Response:
    """Rejects a gate: it fails at once."""
    return await _vote(job_id, approve=False)


async def _vote(job_id: str, *, approve: bool) -> Response:
    job = _job_id(job_id)
    body = await params.lenient_body(wire.VoteBody)
    voter = _voter(g.subject, body.user or "")
    comment = (body.comment or "").replace("\0", "")[:MAX_COMMENT]
    done = await services().runs.vote(job, voter, approve=approve, comment=comment)
    note(
        run_id=str(done.run_id),
        stage_completed=done.stage_completed,
        stage_status=done.stage_status,
        run_completed=done.run_completed,
        run_status=done.run_status,
    )
    message = wire.GateAnswer(
        job_run_id=str(done.job_run_id),
        run_id=str(done.run_id),
        stage_completed=done.stage_completed,
        stage_status=done.stage_status,
        run_completed=done.run_completed,
        run_status=done.run_status,
        pending_quorum=done.pending_quorum,
        approvals_now=done.approvals_now,
        approvals_required=done.approvals_required,
    )
    return answer(message, 202)


def _voter(subject: Subject | None, said: str) -> Voter:
    """Who votes: the session's subject and nobody else. Only without authentication do callers name themselves
    (design 9, decision 14)."""
    if subject is not None:
        names = frozenset(filter(None, (subject.name, subject.email)))
        return Voter(str(subject.id or subject.name), subject.name or subject.email, names, subject.groups)
    name = said.replace("\0", "").strip()[:MAX_USER]
    return Voter(name, name or "anonymous", frozenset({name} - {""}))


def _job_id(text: str) -> UUID:
    return params.uuid(text, "invalid job_run id")
