"""Test reports in JUnit's XML: from one file to test results (protocol-agent 3.12). It finds and sends nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO
from xml.etree.ElementTree import Element

from gocdnext.agent.found import Check, never
from gocdnext.agent.safe_xml import XmlError, events
from gocdnext.proto.agent_pb2 import TestResult

MAX_FILE = 8 * 1024 * 1024
"""Bytes of one report."""
MAX_TEXT = 64 * 1024
"""Bytes of UTF-8 of one text of a result."""
PASSED, FAILED, ERRORED, SKIPPED = "passed", "failed", "errored", "skipped"

_MAX_MILLIS = 2**53
_PRECEDENCE = (("failure", FAILED), ("error", ERRORED), ("skipped", SKIPPED))


@dataclass
class _Case:
    suite: str
    depth: int
    attributes: dict[str, str]
    children: dict[str, Element] = field(default_factory=dict)


def parse(file: IO[bytes], check: Check = never) -> Iterator[TestResult]:
    """The results in the order of the file. XmlError for what is no report, maybe after some results.

    The root is `testsuites` or `testsuite`; suites inside of suites are not read, as everywhere in this protocol.
    """
    suite: str | None = None
    case: _Case | None = None
    top = 0  # the depth of the suites that count
    for event in events(file, MAX_FILE, check):
        element, depth = event.element, event.depth
        if not event.begins:
            if case is not None and depth == case.depth + 1:
                case.children.setdefault(event.name, element)
            elif case is None or depth == case.depth:
                if case is not None:
                    yield _result(case)
                case = None
                event.drop()
        elif depth == 1:
            if event.name not in {"testsuites", "testsuite"}:
                raise XmlError(f"its root is <{event.name[:40]}>, not <testsuites> or <testsuite>")
            top = 1 if event.name == "testsuite" else 2
            suite = element.get("name", "") if top == 1 else None
        elif depth == top:
            suite = element.get("name", "") if event.name == "testsuite" else None
        elif depth == top + 1 and event.name == "testcase" and suite is not None:
            case = _Case(suite, depth, dict(element.attrib))


def _result(case: _Case) -> TestResult:
    status, reason = PASSED, None
    for kind, verdict in _PRECEDENCE:
        if kind in case.children:
            status, reason = verdict, case.children[kind]
            break
    return TestResult(
        suite=cut(case.suite),
        classname=cut(case.attributes.get("classname", "")),
        name=cut(case.attributes.get("name", "")),
        status=status,
        duration_millis=_millis(case.attributes.get("time", "")),
        failure_type=cut(reason.get("type", "")) if reason is not None else "",
        failure_message=cut(reason.get("message", "")) if reason is not None else "",
        failure_detail=cut(_text(reason)),
        system_out=cut(_text(case.children.get("system-out"))),
        system_err=cut(_text(case.children.get("system-err"))),
    )


def _text(element: Element | None) -> str:
    return "".join(element.itertext()).strip() if element is not None else ""


def _millis(seconds: str) -> int:
    """0 for what is no number of seconds."""
    try:
        value = float(seconds)
    except ValueError:
        return 0
    if not math.isfinite(value) or value < 0:
        return 0
    return min(round(value * 1000), _MAX_MILLIS)


def cut(text: str) -> str:
    """At most MAX_TEXT bytes of it, at the border of a character."""
    if len(text) * 4 <= MAX_TEXT:
        return text
    return text.encode("utf-8", "replace")[:MAX_TEXT].decode("utf-8", "ignore")
