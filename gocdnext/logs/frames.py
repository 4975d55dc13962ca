"""Log lines as bytes of the event stream (contract-runs 3.4): rendered once, shared by all readers.

Pure. The text of a line is JSON, so no line can end a frame or forge an `event:` or `data:` field.
"""

from __future__ import annotations

import functools
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


def chunks(after: int, lines: Iterable[Line | tuple[int, str, int, int, str, str]]) -> Iterator[Chunk]:
    """The frames of lines in cursor order, joined to pieces of about CHUNK_BYTES; `after` is the cursor before them.

    A reader of a flooding job costs the server more than anything else, so what neighbours have in common is rendered
    once. The JSON has the members job_id, seq, stream, at, text, in this order.
    """
    frames: list[bytes] = []
    size = 0
    last = after
    at_micros, at = -1, b""
    source: tuple[str, str] | None = None
    head = middle = b""
    dumps = orjson.dumps
    for cursor, job_id, seq, micros, stream, text in lines:
        if micros != at_micros:
            at_micros, at = micros, _time(micros)
        if source != (job_id, stream):
            source = (job_id, stream)
            head = b'{"job_id":%b,"seq":' % dumps(job_id)
            middle = b',"stream":%b,"at":"' % dumps(stream)
        frame = b'event: log\nid: %d\ndata: %b%d%b%b","text":%b}\n\n' % (cursor, head, seq, middle, at, dumps(text))
        frames.append(frame)
        size += len(frame)
        last = cursor
        if size >= CHUNK_BYTES:
            yield Chunk(after, last, b"".join(frames))
            frames, size, after = [], 0, last
    if frames:
        yield Chunk(after, last, b"".join(frames))


def _time(micros: int) -> bytes:
    """RFC 3339 in UTC, without the zeros at the end of the fraction."""
    whole, fraction = divmod(micros, 1_000_000)
    clock = _second(whole)
    return b"%b.%bZ" % (clock, (b"%06d" % fraction).rstrip(b"0")) if fraction else clock + b"Z"


@functools.lru_cache(maxsize=16)
def _second(whole: int) -> bytes:
    return (_EPOCH + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S").encode()


def end(run_id: str, status: str) -> bytes:
    """The last frame: the run is finished and all its lines were sent."""
    return b"event: end\ndata: %b\n\n" % orjson.dumps({"run_id": run_id, "status": status})
