"""The live log of one run as a stream of server-sent events, to the letter of contract-runs 3.4.

Knows nothing of HTTP. Holds no database connection while it waits, and no lines while its reader is slow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import trio

from gocdnext.db import queries
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.logs import frames
from gocdnext.logs.archived import Archives
from gocdnext.logs.hub import LogHub
from gocdnext.logs.replay import Replay

KEEPALIVE_SECONDS = 15.0
PAGE_LINES = 500
"""Lines read from the table at a time by a reader that is behind."""
PAGE_BYTES = 64 * 1024
"""About so many bytes of frames a page has: what a reader that has stopped reading holds in memory. One line of a page
may be longer."""

_SQL = queries.load("logs")


def parse_last_event_id(value: str | None) -> int | None:
    """The cursor of a `Last-Event-ID`; None when it is absent, or not a non-negative integer and counts as absent."""
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > 18:
        return None
    return int(value)


async def stream(
    hub: LogHub,
    db: Database,
    run_id: UUID,
    last_event_id: int | None,
    shutdown: trio.Event,
    archives: Archives | None = None,
) -> AsyncIterator[bytes]:
    """`: ready`, the stored lines after `last_event_id` (none: only new lines), then lines as they are committed. With
    `archives` stored lines are also those that are archived.

    Yields pieces of whole frames. Ends after `event: end` when the run is finished and all its lines were sent; without
    it when `shutdown` is set, the run is unknown, or the database is away: clients come back with their last id.
    Wants `hub.run(db, shutdown)` to be running. Close it promptly when the client has gone (`aclosing`).
    """
    replay = None if archives is None else Replay(archives, run_id)
    with hub.subscribe(run_id) as watch:
        yield frames.READY
        next_keepalive = trio.current_time() + KEEPALIVE_SECONDS
        try:
            rows = await db.fetch(_SQL.run_states, [run_id])
            if not rows:
                return
            newest: int = rows[0]["last"]
            if not watch.edge or newest <= watch.edge:
                # Else lines are about to be published, or the hub's next look finds them: other readers are not disturbed.
                hub.observe(run_id, rows[0]["status"], newest, rows[0]["busy"])
            # A cursor from beyond the newest line must not hide the lines that come.
            cursor = newest if last_event_id is None else min(last_event_id, newest)
            while not shutdown.is_set():
                if trio.current_time() >= next_keepalive:
                    next_keepalive += KEEPALIVE_SECONDS
                    yield frames.KEEPALIVE
                elif (chunk := watch.chunk_after(cursor)) is not None:
                    cursor = chunk.last
                    yield chunk.data
                elif cursor < watch.edge:
                    edge = watch.edge
                    page = await _page(db, replay, run_id, cursor, edge)
                    for chunk in page:
                        cursor = chunk.last
                        yield chunk.data
                    if not page:
                        # What is missing up to the edge was a duplicate, or wiped by a rerun.
                        cursor = edge
                elif watch.ended is not None:
                    yield frames.end(str(run_id), watch.ended)
                    return
                else:
                    with trio.move_on_at(next_keepalive):
                        await watch.wait()
        except DatabaseUnavailableError:
            return


async def _page(db: Database, replay: Replay | None, run_id: UUID, cursor: int, edge: int) -> list[frames.Chunk]:
    """The next lines after `cursor` as frames; the rows, which take much more room, are gone when this returns."""
    rows = await db.fetch(_SQL.lines_after, run_id, cursor, edge, PAGE_LINES, PAGE_BYTES)
    lines = [frames.Line(*row.values()) for row in rows]
    upto = lines[-1].cursor if lines else edge
    if replay is not None and len(lines) < upto - cursor:
        # In this order: a line that is archived in between is found in one of the two places.
        archived, last = await replay.between(cursor, upto)
        both = {line.cursor: line for line in (*archived, *lines) if line.cursor <= last}
        lines = [both[number] for number in sorted(both)]
    return list(frames.chunks(cursor, lines))
