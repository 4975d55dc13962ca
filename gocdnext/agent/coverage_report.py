"""The coverage report of a job: read, summed up, compared with its threshold (protocol-agent 3.13).

Without a threshold whatever is wrong is a line on stderr; with one it fails the job.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal

from gocdnext.agent import coverage, markers
from gocdnext.agent.coverage import CoverageError, Share
from gocdnext.agent.engines import TaskLog
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.found import Check, clean, never, open_regular
from gocdnext.agent.joblog import STDERR
from gocdnext.agent.parcels import in_thread
from gocdnext.proto.agent_pb2 import CoverageReportSpec, CoverageSummary, PackageCoverage

MAX_PACKAGES = 200
"""Packages that are sent: those with the lowest share."""
MAX_NAME = 512
"""Characters of a package's name."""


class CoverageGateError(DeliveryError):
    """The job fails: its coverage is below the threshold, or cannot be known."""


async def collect(spec: CoverageReportSpec, root: str, log: TaskLog) -> CoverageSummary | None:
    """The summary without the ids of run and job; None when there is nothing to send. Tells the log about it."""
    try:
        packages: dict[str, Share] = await in_thread(read, spec.path, spec.format, root)
        summary = summarise(spec.format, packages)
    except DeliveryError as error:
        await log.line(f"coverage: {spec.path}: {error}", STDERR)
        return None
    lines = f"{summary.lines_covered} of {markers.number(summary.lines_total, 'line', 'lines')}"
    await log.line(f"coverage: {percent(summary)} ({lines})")
    return summary


def check(spec: CoverageReportSpec, summary: CoverageSummary | None) -> None:
    """CoverageGateError below the threshold, or when there is one and no report to compare. Equal passes."""
    if not spec.fail_under > 0:
        return
    threshold = Decimal(repr(spec.fail_under))  # as it was written: 33.3, not the nearest fraction of two
    if summary is None:
        raise CoverageGateError(
            f"coverage: {spec.path} could not be used as a {spec.format} report (see the log), and the job demands "
            f"at least {_plain(threshold)} %"
        )
    if summary.lines_covered * 100 < threshold * summary.lines_total:
        raise CoverageGateError(
            f"coverage: {percent(summary)} is below the required {_plain(threshold)} % "
            f"({summary.lines_covered} of {markers.number(summary.lines_total, 'line', 'lines')})"
        )


def read(path: str, kind: str, root: str, check: Check = never) -> dict[str, Share]:
    """The numbers per package of one file below `root`. DeliveryError."""
    try:
        with open(open_regular(root, clean(path)), "rb") as file:
            if os.fstat(file.fileno()).st_size > coverage.MAX_FILE:
                raise CoverageError(f"it is larger than {coverage.MAX_FILE >> 20} MiB; that is the limit")
            return coverage.read(kind, file, check)
    except FileNotFoundError:
        raise CoverageError("there is no such file") from None
    except OSError as error:
        raise CoverageError(f"it cannot be read: {error.strerror or error}") from None


def summarise(kind: str, packages: Mapping[str, Share]) -> CoverageSummary:
    """All lines, and the packages with the lowest shares. CoverageError when there is not one line."""
    covered = sum(share.covered for share in packages.values())
    total = sum(share.total for share in packages.values())
    if not total:
        raise CoverageError("it does not count a single line")
    if total > coverage.MAX_COUNT:
        raise CoverageError("it counts more lines than there can be")
    counted = [(name, share) for name, share in packages.items() if share.total]
    worst = sorted(counted, key=lambda item: (Decimal(item[1].covered) / item[1].total, item[0]))[:MAX_PACKAGES]
    return CoverageSummary(
        format=kind,
        lines_covered=covered,
        lines_total=total,
        packages=[
            PackageCoverage(name=name[:MAX_NAME], lines_covered=share.covered, lines_total=share.total)
            for name, share in worst
        ],
    )


def percent(summary: CoverageSummary) -> str:
    """`79.99 %`: cut, not rounded, so that it never looks like a threshold that it does not reach."""
    hundredths = summary.lines_covered * 10_000 // summary.lines_total
    return f"{_plain(Decimal(hundredths) / 100)} %"


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
