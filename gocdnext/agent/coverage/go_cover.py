"""Go's coverage profile: `mode:`, then one block of statements a line (protocol-agent 3.13)."""

from __future__ import annotations

import re
from typing import IO

from gocdnext.agent.coverage import CoverageError, Share, Totals, directory, number, text_lines
from gocdnext.agent.found import Check

_BLOCK = re.compile(r"(.+):(\d+\.\d+,\d+\.\d+) (\d+) (\d+)")


def read(file: IO[bytes], check: Check) -> dict[str, Share]:
    """Counts statements. A block that is there more than once (one package's tests run another's code) counts once,
    and as covered when any of its lines says so."""
    blocks: dict[tuple[str, str], tuple[int, bool]] = {}
    started = False
    for line, text in text_lines(file, check):
        if text.startswith("mode:"):
            started = True
            continue
        if not started:
            raise CoverageError("its first line does not begin with `mode:`")
        match = _BLOCK.fullmatch(text)
        if match is None:
            raise CoverageError(f"line {line} is not of the form `file:line.column,line.column statements count`")
        key = (match[1], match[2])
        statements, covered = blocks.get(key, (0, False))
        # Counts of `atomic` mode may have any number of digits; only zero matters.
        blocks[key] = (max(statements, number(match[3], line)), covered or match[4].strip("0") != "")
    if not started:
        raise CoverageError("it has no `mode:` line")
    totals = Totals()
    for (path, _), (statements, covered) in blocks.items():
        totals.add(directory(path), statements if covered else 0, statements)
    return totals.packages()
