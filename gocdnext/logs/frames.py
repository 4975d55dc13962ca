"""Log lines as bytes of the event stream (contract-runs 3.4): rendered once, shared by all readers.

Pure. The text of a line is JSON, so no line can end a frame or forge an `event:` or `data:` field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson

READY = b": ready\n\n"
KEEPALIVE = b": keepalive\n\n"
CHUNK_BYTES = 64 * 1024
"""Size from which on frames are handed over as one piece; one very long line may be larger."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Line(NamedTuple):
    """One stored line. `micros` is its time in microseconds since 1970."""

    cursor: int
    job_id: str
    seq: int
    micros: int
    stream: str
    text: str


class Chunk(NamedTuple):
    """Frames of the lines with cursors in (after, last]."""

    after: int
    last: int
    data: bytes


def chunks(after: int, lines: Iterable[Line]) -> Iterator[Chunk]:
    """The frames of lines in cursor order, joined to pieces of about CHUNK_BYTES; `after` is the cursor before them."""
    frames: list[bytes] = []
    size = 0
    last = after
    second, clock = -1, ""
    for cursor, job_id, seq, micros, stream, text in lines:
        whole, fraction = divmod(micros, 1_000_000)
        if whole != second:
            second, clock = whole, (_EPOCH + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S")
        at = f"{clock}.{fraction:06d}".rstrip("0") + "Z" if fraction else f"{clock}Z"
        data = orjson.dumps({"job_id": job_id, "seq": seq, "stream": stream, "at": at, "text": text})
        frame = b"event: log\nid: %d\ndata: %b\n\n" % (cursor, data)
        frames.append(frame)
        size += len(frame)
        last = cursor
        if size >= CHUNK_BYTES:
            yield Chunk(after, last, b"".join(frames))
            frames, size, after = [], 0, last
    if frames:
        yield Chunk(after, last, b"".join(frames))


def end(run_id: str, status: str) -> bytes:
    """The last frame: the run is finished and all its lines were sent."""
    return b"event: end\ndata: %b\n\n" % orjson.dumps({"run_id": run_id, "status": status})
