"""Many lines of one attempt at once, as they come in a LogBatch: what is allowed, and the columns they become. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

MAX_LINES = 16384
MAX_CHARS = 2 * 1024 * 1024
"""Characters of all texts of one message. Our agent stays far below both."""
MAX_SEQ = 2**62
TEXT_CHARS = 1024 * 1024
"""Longest text of one line; what is beyond is cut and said so at its end. Agents split lines well before that."""
STREAM_CHARS = 32
CLOCK_SKEW_MICROS = 24 * 3600 * 1_000_000
"""A line whose time is further than this from the server's gets the server's time."""

_CUT = " [cut: the line is longer than 1 MiB]"
Run = tuple[int, int, str]
"""How many lines in a row, their time in microseconds since 1970, their stream."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Lines of one attempt, numbered without a gap from `first`."""

    first: int
    texts: list[str]
    runs: list[Run]


def problem(first: int, texts: Sequence[str], runs: Sequence[Run]) -> str | None:
    """What is wrong with a batch; None when it can be taken."""
    if not texts or len(texts) > MAX_LINES or sum(map(len, texts)) > MAX_CHARS:
        return f"a log batch has 1 to {MAX_LINES} lines of at most {MAX_CHARS} characters together"
    if len(runs) > len(texts) or any(lines <= 0 for lines, _, _ in runs) or sum(run[0] for run in runs) != len(texts):
        return "the runs of a log batch must cover its lines exactly"
    if not 0 < first < MAX_SEQ:
        return "the first line of a log batch has an impossible number"
    return None


def after(stored: int, first: int, texts: list[str], runs: list[Run]) -> Columns:
    """The lines of a batch that come after line `stored`."""
    skip = min(max(stored + 1 - first, 0), len(texts))
    if not skip:
        return Columns(first, texts, runs)
    left = []
    for (lines, micros, stream), end in zip(runs, accumulate(run[0] for run in runs), strict=True):
        if end > skip:
            left.append((min(lines, end - skip), micros, stream))
    return Columns(first + skip, texts[skip:], left)


def storable_texts(texts: list[str]) -> list[str]:
    """The texts as PostgreSQL can keep them. Looks at all of them at once: hardly any needs a change."""
    if max(map(len, texts), default=0) > TEXT_CHARS or "\0" in "".join(texts):
        return [storable_text(text) for text in texts]
    return texts


def storable_text(text: str) -> str:
    """Without NUL, and cut when it is too long."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if len(text) <= TEXT_CHARS else text[:TEXT_CHARS] + _CUT


def storable_stream(stream: str) -> str:
    """Without NUL, and cut when it is too long."""
    return stream if stream in ("stdout", "stderr") else stream.replace("\0", "")[:STREAM_CHARS]


def storable_time(micros: int, now: int) -> int:
    """The line's own time, or the server's when the agent sent none or has a clock that cannot be right."""
    return micros if -CLOCK_SKEW_MICROS < micros - now < CLOCK_SKEW_MICROS else now
