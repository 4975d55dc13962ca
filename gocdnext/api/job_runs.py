"""`/api/v1/job_runs`: cancel of one job (contract-runs 4.1)."""

from __future__ import annotations

from quart import Blueprint, Response

from gocdnext.api import params, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer
from gocdnext.api.routing import route

blueprint = Blueprint("job_runs", __name__)


@route(blueprint, "POST", "/api/v1/job_runs/<job_id>/cancel")
async def cancel_job(job_id: str) -> Response:
    """Cancels a queued job, or tells the agent of a running one to stop."""
    done = await services().runs.cancel_job(params.uuid(job_id, "invalid job_run id"))
    message = wire.CancelledJob(
        job_run_id=str(done.job_run_id),
        run_id=str(done.run_id),
        job_name=done.job_name,
        status=done.status,
        signaled=done.signaled,
    )
    return answer(message, 202)
