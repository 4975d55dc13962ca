"""Blobs by signed link (contract-runs 9), and the list of a run's artifacts (3.6).

The token of a link is all the authorisation there is: it is checked before anything else and never logged.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Annotated
from urllib.parse import quote

import asyncpg
import msgspec
from msgspec import Meta
from quart import Blueprint, Request, Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import parse_range_header

from gocdnext.api import params, query, wire
from gocdnext.api.body import StreamedBody
from gocdnext.api.context import services
from gocdnext.api.respond import answer, answer_list, nothing, utc, utc_or_none
from gocdnext.api.routing import NOT_AUDITED, Answer, Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire.retention import Pins, PinsChanged
from gocdnext.auth.identity import NotAuthenticatedError
from gocdnext.blobs import artifacts
from gocdnext.blobs.links import save_as
from gocdnext.blobs.store import Blob
from gocdnext.errors import NotFoundError

blueprint = Blueprint("artifacts", __name__)

CONTENT_TYPE = "application/gzip"
MAX_FILENAME = 200
SHOWN = 1000
"""Characters of paths in the audit trail."""


class LinkQuery(msgspec.Struct):
    filename: Annotated[str, Meta(description="The name to save it under.")] = ""


_NOT_IN_FILENAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\"\\/\u2028-\u202e\u2066-\u2069]")


# Agents deliver here what their jobs made: that is the story of a run, not of a person (contract-runs 11).
@route(
    blueprint,
    "PUT",
    "/artifacts/<token>",
    NOT_AUDITED,
    described=Description(
        forms={"application/octet-stream": bytes},
        status=204,
        headers={"X-Artifact-Size": "Bytes that were stored."},
        fails=frozenset({409, 507}),
    ),
)
async def upload(token: str) -> Response:
    """Takes a blob. What was counted and hashed on the way in is kept with its row, for whoever says what it is later."""
    here = services()
    key = _opened(token)
    body = request.body
    assert isinstance(body, StreamedBody)
    stored = await here.blobs.uploads.receive(key, body, request.content_length or 0)
    return nothing(headers={"X-Artifact-Size": str(stored.size)})


@route(
    blueprint,
    "GET",
    "/artifacts/<token>",
    described=Description(
        asks=LinkQuery,
        gives=bytes,
        media=CONTENT_TYPE,
        also=(Answer(gives=bytes, status=206, media=CONTENT_TYPE),),
        reads={"Range": "One range of bytes."},
        headers={
            "Content-Disposition": "The name to save it under.",
            "Accept-Ranges": "`bytes`.",
            "Content-Range": "Which bytes these are, in a 206.",
        },
        fails=frozenset({401, 416}),
    ),
)
async def download(token: str) -> Response:
    """Sends a blob, or the one range of it that is asked for."""
    key = _opened(token)
    async with AsyncExitStack() as opened:
        blob = await opened.enter_async_context(services().blobs.store.open(key))
        if blob is None:
            raise NotFoundError("not found")
        start, stop = _range(request, blob.size)
        response = Response(_sent(blob, opened.pop_all(), start, stop), content_type=CONTENT_TYPE)
    response.timeout = None
    response.headers["Content-Length"] = str(stop - start)
    response.headers["Accept-Ranges"] = "bytes"
    # Never shown in a browser, whatever is in it.
    response.headers["Content-Disposition"] = _disposition(query.asked(LinkQuery).filename)
    if (start, stop) != (0, blob.size):
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
    return response


@route(
    blueprint,
    "GET",
    "/api/v1/runs/<run_id>/artifacts",
    described=Description(asks=query.Paged, gives=list[wire.Artifact]),
)
async def list_artifacts(run_id: str) -> Response:
    """What the jobs of a run have delivered, or are about to; an unknown run has nothing."""
    run = params.uuid(run_id)
    page = query.asked(query.Paged)
    rows = await artifacts.of_run(services().db, run)
    shown = rows[page.part]
    return answer_list([_artifact(row) for row in shown], len(rows))


@route(
    blueprint,
    "POST",
    "/api/v1/runs/<run_id>/artifacts/pin",
    Audited("artifact.pin", "run", "{run_id}"),
    Description(takes=Pins, optional=True, gives=PinsChanged, sends={"paths": ["dist/app"]}),
)
async def pin(run_id: str) -> Response:
    """Keeps what a run has delivered, of some paths or all of it, until it is released."""
    return await _pin(run_id, pinned=True)


@route(
    blueprint,
    "POST",
    "/api/v1/runs/<run_id>/artifacts/unpin",
    Audited("artifact.unpin", "run", "{run_id}"),
    Description(takes=Pins, optional=True, gives=PinsChanged),
)
async def unpin(run_id: str) -> Response:
    """Releases it: times and limits hold again."""
    return await _pin(run_id, pinned=False)


async def _pin(run_id: str, *, pinned: bool) -> Response:
    here, run = services(), params.uuid(run_id)
    wanted = await params.optional_body(Pins)
    changed = await artifacts.pin(here.db, run, wanted.paths, here.clock() if pinned else None)
    if not changed:
        raise NotFoundError("the run has no such artifact that is ready")
    note(paths=", ".join(wanted.paths)[:SHOWN], changed=changed)
    return answer(PinsChanged(changed=changed))


def _opened(token: str) -> str:
    here = services()
    key = here.blobs.links.opens(token, request.method, here.clock())
    if key is None:
        raise NotAuthenticatedError("bad token")
    return key


async def _sent(blob: Blob, opened: AsyncExitStack, start: int, stop: int) -> AsyncIterator[bytes]:
    async with opened, aclosing(blob.pieces(start, stop)) as pieces:
        async for piece in pieces:
            yield piece


def _range(asked: Request, size: int) -> tuple[int, int]:
    """The bytes to send. Several ranges, and what is no range, count as the whole (RFC 9110, 14.2).

    Raises RequestedRangeNotSatisfiable (416) for a range behind the end.
    """
    # Blobs have no validators: a range that is asked for "if nothing changed" cannot be granted.
    said = None if "If-Range" in asked.headers else parse_range_header(asked.headers.get("Range"))
    if said is None or said.units != "bytes" or len(said.ranges) != 1:
        return 0, size
    begin = said.ranges[0][0]
    if begin < -size:
        return 0, size  # the last so many bytes, and there are fewer
    found = said.range_for_length(size)
    if found is None:
        raise RequestedRangeNotSatisfiable(length=size)
    return found


def _disposition(filename: str) -> str:
    name = _NOT_IN_FILENAMES.sub("", filename)[:MAX_FILENAME]
    if not name:
        return "attachment"
    # A header is latin-1; the second form is for every other name (RFC 6266).
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    encoded = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{encoded}'


def _artifact(row: asyncpg.Record) -> wire.Artifact:
    here = services()
    shown = wire.Artifact(
        id=str(row["id"]),
        job_run_id=str(row["job_run_id"]),
        job_name=row["job_name"],
        path=row["path"],
        status=row["status"],
        size_bytes=row["size_bytes"] or 0,
        content_sha256=row["content_sha256"] or "",
        created_at=utc(row["created_at"]),
        expires_at=utc(row["expires_at"]),
        pinned_at=utc_or_none(row["pinned_at"]),
    )
    if row["status"] == "ready":
        # Where nobody said how this server is reached, it is reached as it was just now.
        base = here.settings.artifacts_base or f"{request.scheme}://{request.host}"
        link = here.blobs.links.shown(row["storage_key"], here.clock(), save_as(row["path"]), base)
        shown.download_url, shown.download_url_expires_at = link.url, utc(link.expires_at)
    return shown
