"""JaCoCo's XML: counters per package, maybe in groups (protocol-agent 3.13)."""

from __future__ import annotations

from typing import IO

from gocdnext.agent.coverage import MAX_FILE, CoverageError, Share, Totals, number
from gocdnext.agent.found import Check
from gocdnext.agent.safe_xml import events


def read(file: IO[bytes], check: Check) -> dict[str, Share]:
    """Takes the LINE counter of each package, not those of its classes and files. A package that several groups have
    (the modules of a build) is the sum of them; one without such a counter was compiled without line numbers."""
    totals = Totals()
    package: str | None = None
    at = 0  # the depth of the package
    for event in events(file, MAX_FILE, check):
        element = event.element
        if not event.begins:
            if event.depth == at:
                package, at = None, 0
            event.drop()
        elif event.depth == 1 and event.name != "report":
            raise CoverageError(f"its root is <{event.name[:40]}>, not <report>")
        elif event.name == "package" and package is None:
            package, at = element.get("name", "") or ".", event.depth
        elif (
            event.name == "counter" and event.depth == at + 1 and element.get("type") == "LINE" and package is not None
        ):
            covered, missed = (number(element.get(name, ""), 0) for name in ("covered", "missed"))
            totals.add(package, covered, covered + missed)
    return totals.packages()
