"""The test reports of a job: found by patterns, read, made into the one batch that is sent (protocol-agent 3.12).

A report never fails a job: what cannot be read is a line on stderr.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gocdnext.agent import junit, markers
from gocdnext.agent.engines import TaskLog
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.found import Check, find, never, open_regular
from gocdnext.agent.joblog import STDERR
from gocdnext.agent.parcels import in_thread
from gocdnext.proto.agent_pb2 import TestResult

MAX_FILES = 1000
MAX_BATCH = 3_500_000
"""Bytes of results in one message: other servers of this protocol take no message beyond 4 MiB."""
MAX_WARNINGS = 20
_TEXTS = (
    "suite", "classname", "name", "failure_type", "failure_message", "failure_detail", "system_out", "system_err"
)  # fmt: skip


@dataclass
class Collected:
    """`left_out` results did not fit; `warnings` are lines for the user."""

    results: list[TestResult] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    files: int = 0
    size: int = 0
    left_out: int = 0
    warnings: list[str] = field(default_factory=list)


async def collect(patterns: Sequence[str], root: str, mask: Callable[[str], str], log: TaskLog) -> list[TestResult]:
    """The results of all reports below `root`, masked; at most what fits into one message. Tells the log about them."""
    collected: Collected = await in_thread(read_all, list(patterns), root, mask)
    for text in collected.warnings[:MAX_WARNINGS]:
        await log.line(f"test reports: {text}", STDERR)
    if len(collected.warnings) > MAX_WARNINGS:
        await log.line(f"test reports: {len(collected.warnings) - MAX_WARNINGS} more files were not read", STDERR)
    if collected.left_out:
        text = f"{collected.left_out} results are left out: one job reports at most {MAX_BATCH / 1e6} MB"
        await log.line(f"test reports: {text}", STDERR)
    if collected.files:
        kinds = [junit.PASSED, junit.FAILED, junit.ERRORED, junit.SKIPPED]
        counts = [f"{collected.counts[kind]} {kind}" for kind in kinds if collected.counts[kind]]
        files = markers.number(collected.files, "file", "files")
        await log.line(f"test reports: {', '.join(counts) or 'no tests'} in {files}")
    return collected.results


def read_all(patterns: Sequence[str], root: str, mask: Callable[[str], str], check: Check = never) -> Collected:
    """Reads every report once, whatever number of patterns matches it."""
    collected = Collected()
    names: dict[str, None] = {}
    for pattern in patterns:
        try:
            found = find(root, pattern, check)
        except DeliveryError as error:
            collected.warnings.append(str(error))
            continue
        if not found:
            collected.warnings.append(f"no file matches {pattern!r}")
        names.update(dict.fromkeys(found))
    if len(names) > MAX_FILES:
        collected.warnings.append(f"{len(names)} files match; the first {MAX_FILES} are read, that is the limit")
    for name in list(names)[:MAX_FILES]:
        check()
        try:
            _read(name, root, mask, collected, check)
        except DeliveryError as error:
            collected.warnings.append(f"{name} is not read: {error}")
        except OSError as error:
            collected.warnings.append(f"{name} is not read: {error.strerror or error}")
    return collected


def _read(name: str, root: str, mask: Callable[[str], str], collected: Collected, check: Check) -> None:
    """Adds the results of one file: all of it, or nothing when it turns out to be no report."""
    counts, kept, size, left_out = Counter(collected.counts), len(collected.results), collected.size, collected.left_out
    with open(open_regular(root, name), "rb") as file:
        if os.fstat(file.fileno()).st_size > junit.MAX_FILE:
            raise DeliveryError(f"it is larger than {junit.MAX_FILE >> 20} MiB; that is the limit")
        try:
            for result in junit.parse(file, check):
                _add(result, mask, collected)
        except DeliveryError:
            collected.counts, collected.size, collected.left_out = counts, size, left_out
            del collected.results[kept:]
            raise
    collected.files += 1


def _add(result: TestResult, mask: Callable[[str], str], collected: Collected) -> None:
    collected.counts[result.status] += 1
    for name in _TEXTS:
        if text := getattr(result, name):
            setattr(result, name, junit.cut(mask(text)))
    size = result.ByteSize() + 8  # the field's tag and length
    if collected.size + size > MAX_BATCH:
        collected.left_out += 1
    else:
        collected.size += size
        collected.results.append(result)
