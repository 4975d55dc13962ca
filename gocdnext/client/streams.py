"""Server-sent events and lines out of the bytes of an answer. No connection here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from gocdnext.client.errors import CannotReachError

MAX_EVENT = 16 * 1024 * 1024
"""Most bytes of one line of a stream; more is not one of ours."""


class Event(NamedTuple):
    """One server-sent event. `id` is the run-wide cursor of a log line; empty on `end`."""

    name: str
    id: str
    data: dict[str, Any]


def byte_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their ends. Only LF and CRLF end one: text of a log may hold any other separator.

    Raises `CannotReachError` for a line over MAX_EVENT bytes.
    """
    rest: list[bytes] = []
    size = 0
    for chunk in chunks:
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            yield b"".join([*rest, line]).removesuffix(b"\r")
            rest, size = [], 0
        rest.append(tail)
        size += len(tail)
        if size > MAX_EVENT:
            raise CannotReachError(f"a line of the answer is over {MAX_EVENT} bytes; is this a gocdnext server?")
    if last := b"".join(rest):
        yield last


def parse_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Server-sent events with JSON data. Comments are skipped; an event that the stream breaks off is dropped."""
    fields: dict[bytes, bytes] = {}
    for line in byte_lines(chunks):
        if line:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            fields[name] = fields[name] + b"\n" + value if name == b"data" and name in fields else value
            continue
        if b"data" in fields:
            name = fields.get(b"event", b"message")
            yield Event(name.decode(), fields.get(b"id", b"").decode(), orjson.loads(fields[b"data"]))
        fields = {}
