"""`/api/v1/runs`: feed, detail, live log, log text, cancel (contract-runs 3)."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, Response, request

from gocdnext.api import explained, params, render, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing
from gocdnext.api.routing import route
from gocdnext.api.trail import Audited, note
from gocdnext.logs.log_text import log_text
from gocdnext.logs.stream import parse_last_event_id, stream
from gocdnext.logs.windows import windows
from gocdnext.projects import read
from gocdnext.runs.state import OPEN
from gocdnext.runs.waiting import NOTHING

blueprint = Blueprint("runs", __name__)

DEFAULT_LIMIT = 20
MAX_LIMIT = 200
DEFAULT_LINES = 200
MAX_LINES = 2000


@route(blueprint, "GET", "/api/v1/runs")
async def list_runs() -> Response:
    """Runs of all projects, newest first (3.1)."""
    limit = params.whole("limit", DEFAULT_LIMIT, low=1, high=MAX_LIMIT)
    offset = params.whole("offset", 0, low=0, high=params.INT64, width=params.INT64)
    pipeline = params.filter_of("pipeline")
    wanted = read.FeedFilter(
        status=params.filter_of("status"),
        cause=params.filter_of("cause"),
        project=params.filter_of("project"),
        pipeline=pipeline,
        pipeline_id=None if pipeline is None else params.parse_uuid(pipeline),
    )
    found = await read.feed(services().db, wanted, limit, offset)
    reasons = await explained.reasons_of((row["id"], row) for row in found.runs)
    return answer(render.feed(found, reasons, limit, offset))


@route(blueprint, "GET", "/api/v1/runs/<run_id>")
async def show_run(run_id: str) -> Response:
    """One run with its stages, jobs and log windows (3.2)."""
    run = params.uuid(run_id)
    tail = params.whole("logs", DEFAULT_LINES, low=0, high=MAX_LINES)
    head = params.whole("head", 0, low=0, high=MAX_LINES) if tail else _checked_head()
    db = services().db
    row = await read.run(db, run)
    stages = render.stages_of(row)
    jobs = {UUID(job.id): job for stage in stages for job in stage.jobs}
    if tail:
        since = _since()
        for job_id, window in (await windows(db, list(jobs), tail=tail, head=head, since=since)).items():
            render.add_window(jobs[job_id], window, head=head > 0 and job_id not in since)
    detail = render.run_detail(row, stages)
    if detail.status in OPEN:
        render.add_reasons(detail, (await services().runs.reasons([run])).get(run, NOTHING))
    return answer(detail)


@route(blueprint, "GET", "/api/v1/runs/<run_id>/logs/stream")
async def stream_logs(run_id: str) -> Response:
    """The live log as server-sent events (3.4); ends with the run, the reader or the server."""
    here = services()
    run = params.uuid(run_id)
    await read.require_run(here.db, run)
    cursor = parse_last_event_id(request.headers.get("Last-Event-ID") or request.args.get("last_event_id"))
    response = Response(
        stream(here.hub, here.db, run, cursor, here.shutdown),
        headers={
            "Cache-Control": "no-cache, no-transform",
            "Connection": "keep-alive",
            "X-Accel-Buffering": "no",
        },
        content_type="text/event-stream",
    )
    response.timeout = None
    return response


@route(blueprint, "GET", "/api/v1/runs/<run_id>/jobs/<job_id>/log.txt")
async def log_file(run_id: str, job_id: str) -> Response:
    """The whole log of a job as a text file (3.5)."""
    run = params.uuid(run_id, "invalid run id")
    job = params.uuid(job_id, "invalid job id")
    db = services().db
    await read.require_job_of_run(db, run, job)
    response = Response(
        log_text(db, job),
        headers={"Content-Disposition": f'attachment; filename="job-{str(job)[:8]}.log"'},
        content_type="text/plain; charset=utf-8",
    )
    response.timeout = None
    return response


@route(blueprint, "POST", "/api/v1/runs/<run_id>/cancel", Audited("run.cancel", "run", "{run_id}"))
async def cancel_run(run_id: str) -> Response:
    """Cancels an open run (3.9)."""
    signaled = await services().runs.cancel_run(params.uuid(run_id, "invalid run id"))
    note(signaled_jobs=signaled)
    return nothing(headers={"X-Gocdnext-Signaled-Jobs": str(signaled)})


@route(blueprint, "POST", "/api/v1/runs/<run_id>/rerun", Audited("run.rerun", "run", "{run_id}"))
async def rerun(run_id: str) -> Response:
    """A new run with the revisions of a finished one (3.10)."""
    old = params.uuid(run_id, "invalid run id")
    body = await params.optional_body(wire.RerunBody)
    made = await services().runs.rerun(old, body.triggered_by or "")
    new = str(made.run_id)
    note(target=new, rerun_of=str(old), counter=made.counter)
    return answer(wire.Rerun(id=new, run_id=new, counter=made.counter, rerun_of=str(old)), 202)


def _checked_head() -> int:
    """`logs=0` means no work with logs at all, but a bad `head` is refused all the same."""
    params.whole("head", 0, low=0, high=MAX_LINES)
    return 0


def _since() -> dict[UUID, int]:
    """The cursors `<job id>:<seq>`; what is not one is left out (3.2)."""
    cursors: dict[UUID, int] = {}
    for entry in request.args.getlist("since"):
        job, _, seq = entry.rpartition(":")
        job_id = params.parse_uuid(job)
        if job_id is not None and seq.isascii() and seq.isdigit() and len(seq) <= 18:
            cursors[job_id] = int(seq)
    return cursors
