"""What of a pipeline cannot be stored: names too long for an index, text that PostgreSQL has no room for. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gocdnext.pipeline.model import Pipeline

MAX_NAME = 255
"""Bytes of a pipeline, stage or job name; they are parts of index keys."""
MAX_MATRIX_KEY = 1500
"""Bytes of one matrix instance's key."""


def unstorable(pipeline: Pipeline) -> str:
    """The first reason why the pipeline cannot be stored, or an empty text."""
    for kind, name in _names(pipeline):
        if len(name.encode(errors="replace")) > MAX_NAME:
            return f"{kind} name longer than {MAX_NAME} bytes: {name[:40]!r}…"
    for job in pipeline.jobs:
        if any(len(key.encode(errors="replace")) > MAX_MATRIX_KEY for key in job.instances):
            return f'job "{job.name}": a combination of the matrix is longer than {MAX_MATRIX_KEY} bytes'
    return unstorable_text(msgspec.to_builtins(pipeline))


def unstorable_text(value: object) -> str:
    """The first text in a tree of plain values that cannot be stored, with the reason, or an empty text."""
    for text in _texts(value):
        if "\0" in text:
            return f"a value contains a NUL character: {text[:40]!r}"
        if not _is_unicode(text):
            return f"a value contains half of a surrogate pair: {text[:40]!r}"
    return ""


def _names(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    yield "pipeline", pipeline.name
    yield from (("stage", stage) for stage in pipeline.stages)
    yield from (("job", job.name) for job in pipeline.jobs)


def _texts(value: object) -> Iterator[str]:
    """Every text in a tree of plain values, keys included. The tree is as deep as the model, so this may recurse."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
