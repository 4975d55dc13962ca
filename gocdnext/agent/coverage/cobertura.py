"""Cobertura's XML: packages, classes, lines (protocol-agent 3.13)."""

from __future__ import annotations

from typing import IO
from xml.etree.ElementTree import Element

from gocdnext.agent.coverage import MAX_FILE, CoverageError, Share, Totals
from gocdnext.agent.found import Check
from gocdnext.agent.safe_xml import events

_LINE = ["coverage", "packages", "package", "classes", "class", "lines", "line"]


def read(file: IO[bytes], check: Check) -> dict[str, Share]:
    """Counts the `line` elements of classes that have `hits`, not again those of their methods. A line of a file that
    several classes of a package share counts once, and as covered when any of them says so."""
    lines: dict[tuple[str, str, str], bool] = {}
    path: list[str] = []
    package = source = ""
    for event in events(file, MAX_FILE, check):
        if not event.begins:
            path.pop()
            event.drop()
            continue
        path.append(event.name)
        if event.depth == 1 and event.name != "coverage":
            raise CoverageError(f"its root is <{event.name[:40]}>, not <coverage>")
        if path == _LINE[:3]:
            package = event.element.get("name", "") or "."
        elif path == _LINE[:5]:
            source = event.element.get("filename", "") or event.element.get("name", "")
        elif path == _LINE and "hits" in event.element.attrib:
            # A line without a number is like no other.
            key = (package, source, event.element.get("number") or f"#{len(lines)}")
            lines[key] = lines.get(key, False) or _is_hit(event.element)
    totals = Totals()
    for (name, _, _), covered in lines.items():
        totals.add(name, int(covered), 1)
    return totals.packages()


def _is_hit(element: Element) -> bool:
    hits = element.get("hits", "").strip()
    if not hits.removeprefix("-").isdigit():
        raise CoverageError(f"{hits[:40]!r} is not a number of hits")
    return not hits.startswith("-") and hits.strip("0") != ""
