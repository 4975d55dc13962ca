"""The trace files of lcov: records of one source file each (protocol-agent 3.13)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO

from gocdnext.agent.coverage import CoverageError, Share, Totals, directory, number, text_lines
from gocdnext.agent.found import Check


@dataclass
class _Source:
    """What the records of one source file say. `found` and `hit` are what they say themselves (LF, LH), once each."""

    lines: dict[int, bool] = field(default_factory=dict)
    found: list[int] = field(default_factory=list)
    hit: list[int] = field(default_factory=list)
    records: int = 0

    def share(self) -> Share:
        """A single record's own sums when it has both; else the lines, each once, covered when any record says so.

        Several records of one file without any lines: the best of them, for sums would count lines twice.
        """
        own = len(self.found) == len(self.hit) == self.records
        if own and (self.records == 1 or not self.lines):
            return Share(max(self.hit), max(self.found))
        return Share(sum(self.lines.values()), len(self.lines))


def read(file: IO[bytes], check: Check) -> dict[str, Share]:
    """Counts lines; the package of a file is its directory."""
    sources: dict[str, _Source] = {}
    source: _Source | None = None
    for line, text in text_lines(file, check):
        kind, _, value = text.partition(":")
        if kind == "SF":
            source = sources.setdefault(value.strip(), _Source())
            source.records += 1
        elif text == "end_of_record":
            source = None
        elif source is not None:
            if kind == "DA":
                _line(source, value, line)
            elif kind == "LF":
                source.found.append(number(value, line))
            elif kind == "LH":
                source.hit.append(number(value, line))
    if not sources:
        raise CoverageError("it has no record of a source file (`SF:`)")
    totals = Totals()
    for path, found in sources.items():
        share = found.share()
        totals.add(directory(path), share.covered, share.total)
    return totals.packages()


def _line(source: _Source, value: str, line: int) -> None:
    """`DA:<line>,<count>[,<check sum>]`. Some tools write counts below zero when they overflow."""
    parts = value.split(",")
    if len(parts) < 2:
        raise CoverageError(f"line {line} is not of the form `DA:line,count`")
    at, count = number(parts[0], line), parts[1].strip()
    if not count.removeprefix("-").isdigit():
        raise CoverageError(f"line {line}: {count[:40]!r} is not a count")
    source.lines[at] = source.lines.get(at, False) or (not count.startswith("-") and count.strip("0") != "")
