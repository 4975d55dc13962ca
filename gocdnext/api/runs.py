"""`/api/v1/runs`: feed, detail, live log, log text, cancel (contract-runs 3)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta
from quart import Blueprint, Response, request

from gocdnext.api import explained, params, query, render, wire
from gocdnext.api.context import services
from gocdnext.api.kept import Fresh
from gocdnext.api.respond import answer, nothing
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.logs.archived_windows import archived_windows
from gocdnext.logs.log_text import log_text
from gocdnext.logs.stream import parse_last_event_id, stream
from gocdnext.projects import read
from gocdnext.runs.state import OPEN
from gocdnext.runs.waiting import NOTHING

blueprint = Blueprint("runs", __name__)

MAX_LINES = 2000
_EVENTS = (
    "event: log\nid: 12345\n"
    'data: {"job_id":"0d6c5f0e-3b1f-4a55-9f0e-0a2f4c8f1b11","seq":12,"stream":"stdout",'
    '"at":"2026-04-28T13:00:00Z","text":"ok"}\n\n'
)


class FeedQuery(msgspec.Struct):
    limit: Annotated[int, Meta(ge=1, le=200)] = 20
    offset: query.Offset = 0
    status: Annotated[str, Meta(description="Only runs of this status.", examples=["failed"])] | None = None
    cause: Annotated[str, Meta(description="Only runs of this cause.", examples=["webhook"])] | None = None
    project: Annotated[str, Meta(description="Only runs of the project of this slug.")] | None = None
    pipeline: (
        Annotated[str, Meta(description="Only runs of pipelines of this name, or of the one of this id.")] | None
    ) = None


class RunQuery(msgspec.Struct):
    logs: Annotated[int, Meta(ge=0, le=MAX_LINES, description="How many of the newest lines of each job; 0: none.")] = (
        200
    )
    head: Annotated[int, Meta(ge=0, le=MAX_LINES, description="How many of the oldest lines of each job besides.")] = 0
    since: Annotated[list[str], Meta(description="`<job id>:<seq>`: only lines of this job after that one.")] = []


class StreamQuery(msgspec.Struct):
    last_event_id: (
        Annotated[str, Meta(description="As `Last-Event-ID`, for readers that cannot send headers.")] | None
    ) = None


@route(blueprint, "GET", "/api/v1/runs", described=Description(asks=FeedQuery, gives=wire.Runs))
async def list_runs() -> Response:
    """Runs of all projects, newest first (3.1)."""
    asked = query.asked(FeedQuery)
    wanted = read.FeedFilter(
        status=asked.status,
        cause=asked.cause,
        project=asked.project,
        pipeline=asked.pipeline,
        pipeline_id=None if asked.pipeline is None else params.parse_uuid(asked.pipeline),
    )

    async def reading() -> Fresh:
        found = await read.feed(services().db, wanted, asked.limit, asked.offset)
        reasons, lasts = await explained.reasons_of(((row["id"], row["open_jobs"]) for row in found.runs), "feed")
        return Fresh(render.feed(found, reasons, asked.limit, asked.offset), lasts=lasts)

    return await services().kept.answer(("runs", wanted, asked.limit, asked.offset), reading)


@route(blueprint, "GET", "/api/v1/runs/<run_id>", described=Description(asks=RunQuery, gives=wire.RunDetail))
async def show_run(run_id: str) -> Response:
    """One run with its stages, jobs and log windows (3.2)."""
    run = params.uuid(run_id)
    asked = query.asked(RunQuery)
    tail = asked.logs
    head = asked.head if tail else 0
    since = _since(asked.since) if tail else {}

    async def reading() -> Fresh:
        return await _detail(run, tail, head, since)

    return await services().kept.answer(("run", run, tail, head, frozenset(since.items())), reading)


async def _detail(run: UUID, tail: int, head: int, since: dict[UUID, int]) -> Fresh:
    db = services().db
    row = await read.run(db, run)
    stages = render.stages_of(row)
    jobs = {UUID(job.id): job for stage in stages for job in stage.jobs}
    if tail:
        shown = await archived_windows(services().archives, list(jobs), tail=tail, head=head, since=since)
        for job_id, window in shown.items():
            render.add_window(jobs[job_id], window, head=head > 0 and job_id not in since)
    detail = render.run_detail(row, stages)
    if detail.status in OPEN:
        reasons, _ = await explained.reasons([run], "run_detail")
        render.add_reasons(detail, reasons.get(run, NOTHING))
    return Fresh(detail, lasts=detail.status not in OPEN)


@route(
    blueprint,
    "GET",
    "/api/v1/runs/<run_id>/logs/stream",
    described=Description(
        asks=StreamQuery,
        gives=str,
        media="text/event-stream",
        example=_EVENTS,
        reads={"Last-Event-ID": "The cursor of the last line that the reader has: everything after it follows."},
    ),
)
async def stream_logs(run_id: str) -> Response:
    """The live log as server-sent events (3.4); ends with the run, the reader or the server."""
    here = services()
    run = params.uuid(run_id)
    await read.require_run(here.db, run)
    cursor = parse_last_event_id(request.headers.get("Last-Event-ID") or query.asked(StreamQuery).last_event_id)
    response = Response(
        stream(here.hub, here.db, run, cursor, here.shutdown, here.archives),
        headers={
            "Cache-Control": "no-cache, no-transform",
            "Connection": "keep-alive",
            "X-Accel-Buffering": "no",
        },
        content_type="text/event-stream",
    )
    response.timeout = None
    return response


@route(
    blueprint,
    "GET",
    "/api/v1/runs/<run_id>/jobs/<job_id>/log.txt",
    described=Description(gives=str, media="text/plain; charset=utf-8"),
)
async def log_file(run_id: str, job_id: str) -> Response:
    """The whole log of a job as a text file (3.5)."""
    run = params.uuid(run_id, "invalid run id")
    job = params.uuid(job_id, "invalid job id")
    db = services().db
    await read.require_job_of_run(db, run, job)
    response = Response(
        log_text(services().archives, job),
        headers={"Content-Disposition": f'attachment; filename="job-{str(job)[:8]}.log"'},
        content_type="text/plain; charset=utf-8",
    )
    response.timeout = None
    return response


@route(
    blueprint,
    "POST",
    "/api/v1/runs/<run_id>/cancel",
    Audited("run.cancel", "run", "{run_id}"),
    described=Description(
        status=204, headers={"X-Gocdnext-Signaled-Jobs": "How many jobs were told to stop."}, fails=frozenset({409})
    ),
)
async def cancel_run(run_id: str) -> Response:
    """Cancels an open run (3.9)."""
    signaled = await services().runs.cancel_run(params.uuid(run_id, "invalid run id"))
    note(signaled_jobs=signaled)
    return nothing(headers={"X-Gocdnext-Signaled-Jobs": str(signaled)})


@route(
    blueprint,
    "POST",
    "/api/v1/runs/<run_id>/rerun",
    Audited("run.rerun", "run", "{run_id}"),
    described=Description(
        takes=wire.RerunBody, optional=True, gives=wire.Rerun, status=202, fails=frozenset({409, 422})
    ),
)
async def rerun(run_id: str) -> Response:
    """A new run with the revisions of a finished one (3.10)."""
    old = params.uuid(run_id, "invalid run id")
    body = await params.optional_body(wire.RerunBody)
    made = await services().runs.rerun(old, body.triggered_by or "")
    new = str(made.run_id)
    note(target=new, rerun_of=str(old), counter=made.counter)
    return answer(wire.Rerun(id=new, run_id=new, counter=made.counter, rerun_of=str(old)), 202)


def _since(said: list[str]) -> dict[UUID, int]:
    """The cursors `<job id>:<seq>`; what is not one is left out (3.2)."""
    cursors: dict[UUID, int] = {}
    for entry in said:
        job, _, seq = entry.rpartition(":")
        job_id = params.parse_uuid(job)
        if job_id is not None and seq.isascii() and seq.isdigit() and len(seq) <= 18:
            cursors[job_id] = int(seq)
    return cursors
