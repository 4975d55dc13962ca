"""Coverage reports in four formats: from one file to numbers per package (protocol-agent 3.13). One module per format.

Nothing here finds files, compares with thresholds or sends anything: that is coverage_report.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol

from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.found import Check, never

MAX_FILE = 32 * 1024 * 1024
"""Bytes of one report."""
MAX_COUNT = 2**63 - 1
FORMATS = {"go-cover": "go_cover", "lcov": "lcov", "cobertura": "cobertura", "jacoco": "jacoco"}
"""The names that pipelines use, with the modules that read them."""
STEP = 10_000
"""Lines between two checks."""


class CoverageError(DeliveryError):
    """The report cannot be used; the text says why, with the line where there is one."""


@dataclass(frozen=True)
class Share:
    """How many lines (go-cover: statements) were run, of how many."""

    covered: int
    total: int


class Totals:
    """Adds up shares by package."""

    def __init__(self) -> None:
        self._packages: dict[str, Share] = {}

    def add(self, package: str, covered: int, total: int) -> None:
        """CoverageError for numbers that cannot be."""
        known = self._packages.get(package, Share(0, 0))
        share = Share(known.covered + covered, known.total + total)
        if not 0 <= covered <= total or share.total > MAX_COUNT:
            raise CoverageError(f"{package!r} has {covered} covered of {total} lines, which cannot be")
        self._packages[package] = share

    def packages(self) -> dict[str, Share]:
        """By name."""
        return self._packages


class _Format(Protocol):
    def read(self, file: IO[bytes], check: Check) -> dict[str, Share]: ...


def read(kind: str, file: IO[bytes], check: Check = never) -> dict[str, Share]:
    """The numbers per package of a report of this format. DeliveryError when it is none of that format."""
    if kind not in FORMATS:
        raise CoverageError(f"the format {kind[:40]!r} is not one of {', '.join(FORMATS)}")
    module: _Format = importlib.import_module(f"{__name__}.{FORMATS[kind]}")
    return module.read(file, check)


def text_lines(file: IO[bytes], check: Check) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank, without blanks around it. CoverageError for more than MAX_FILE."""
    left = MAX_FILE
    number = 0
    while raw := file.readline(left + 1):
        left -= len(raw)
        number += 1
        if left < 0:
            raise CoverageError(f"it is larger than {MAX_FILE >> 20} MiB; that is the limit")
        if number % STEP == 0:
            check()
        line = raw.decode("utf-8", "replace").strip("\ufeff \t\r\n\0")
        if line:
            yield number, line


def number(text: str, line: int) -> int:
    """A count as a report writes it. CoverageError names the line."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise CoverageError(f"line {line}: {text[:40]!r} is not a count")
    return int(text)


def directory(path: str) -> str:
    """The package of a file: its directory, `.` for none."""
    return path.replace("\\", "/").rpartition("/")[0] or ("/" if path.startswith("/") else ".")
