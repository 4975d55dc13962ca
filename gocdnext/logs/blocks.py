"""The bytes of an archived log: lines in blocks, each a gzip member of its own (contract-runs 9). Pure.

All members one after the other are one gzip file of lines `seq<TAB>time<TAB>stream<TAB>text`; a block can be read alone.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gocdnext.logs.windows import LogLine

BLOCK_LINES = 1000
"""Lines of a block: most windows are in one or two, and one is unpacked in a few milliseconds."""
BLOCK_BYTES = 1024 * 1024
"""Bytes of text after which a block is full, however few its lines are."""
LEVEL = 6
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n"})
_ESCAPED = {"\\": "\\", "t": "\t", "n": "\n"}


class DamagedError(OSError):
    """A block is not what was written: the disk, or somebody, has changed it."""


@dataclass(slots=True)
class Index:
    """Where the blocks are."""

    seqs: list[int] = field(default_factory=list)
    """The number of the first line of each."""
    before: list[int] = field(default_factory=list)
    """How many lines are before each."""
    offsets: list[int] = field(default_factory=list)
    """Where each begins, in bytes."""
    lines: int = 0
    size: int = 0

    def add(self, lines: Sequence[LogLine], block: bytes) -> None:
        """One more block."""
        self.seqs.append(lines[0].seq)
        self.before.append(self.lines)
        self.offsets.append(self.size)
        self.lines += len(lines)
        self.size += len(block)

    def where(self, number: int) -> tuple[int, int]:
        """From which byte of the blob up to which a block is."""
        stop = self.offsets[number + 1] if number + 1 < len(self.offsets) else self.size
        return self.offsets[number], stop


@dataclass(slots=True)
class Cursors:
    """The places of archived lines in the order of their run: stretches of neighbours, which batches of lines are."""

    lines: list[int] = field(default_factory=list)
    """How many lines of the job are before each stretch."""
    firsts: list[int] = field(default_factory=list)
    """The cursor of its first line."""
    count: int = 0

    def add(self, cursors: Iterable[int]) -> None:
        """The cursors of the next lines."""
        for cursor in cursors:
            if not self.lines or cursor != self.firsts[-1] + self.count - self.lines[-1]:
                self.lines.append(self.count)
                self.firsts.append(cursor)
            self.count += 1


def packed(lines: Iterable[LogLine]) -> bytes:
    """A block of these lines. The same lines are always the same bytes."""
    text = "".join(
        f"{line.seq}\t{_written(line.at)}\t{line.stream}\t{line.text.translate(_ESCAPES)}\n" for line in lines
    )
    return gzip.compress(text.encode(), LEVEL, mtime=0)


def unpacked(block: bytes) -> list[str]:
    """The lines of a block as they are written there. Raises DamagedError."""
    try:
        # Not splitlines: other ends of lines are part of a text.
        return gzip.decompress(block).decode().split("\n")[:-1]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DamagedError(f"an archived log is damaged: {error}") from error


def line(written: str) -> LogLine:
    """A line of a block: most of what reading one costs, so only those that are asked for. Raises DamagedError."""
    try:
        seq, at, stream, text = written.split("\t")
        return LogLine(int(seq), stream, datetime.fromisoformat(at), _plain(text) if "\\" in text else text)
    except ValueError as error:
        raise DamagedError(f"an archived log is damaged: {error}") from error


def number(written: str) -> int:
    """The seq of a line of a block. Raises DamagedError."""
    try:
        return int(written.partition("\t")[0])
    except ValueError as error:
        raise DamagedError(f"an archived log is damaged: {error}") from error


def _plain(text: str) -> str:
    first, *rest = text.split("\\")
    found, pieces = [first], iter(rest)
    for piece in pieces:
        if piece:
            found.append(_ESCAPED.get(piece[0], piece[0]) + piece[1:])
        else:
            # An escaped backslash: what follows it is plain.
            found.append("\\" + next(pieces, ""))
    return "".join(found)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
