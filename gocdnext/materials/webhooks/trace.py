"""Why a delivery did what it did: the rules that were asked, in their order, and what each said. Pure.

This is what answers "why did this push start nothing?", so every rule that can end it says so in words for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_NOTES = 200
MAX_TEXT = 500
"""Characters of one note."""


@dataclass(slots=True)
class Trace:
    """Notes in order. Past MAX_NOTES only their number is kept."""

    _notes: list[dict[str, object]] = field(default_factory=list)
    _more: int = 0

    def passed(self, rule: str, said: str, pipeline: str = "") -> None:
        """The rule lets it go on."""
        self._add(rule, said, pipeline, passed=True)

    def ended(self, rule: str, said: str, pipeline: str = "") -> None:
        """Here it ends: for one pipeline, or (without one) for the delivery."""
        self._add(rule, said, pipeline, passed=False)

    def _add(self, rule: str, said: str, pipeline: str, *, passed: bool) -> None:
        if len(self._notes) >= MAX_NOTES:
            self._more += 1
            return
        note: dict[str, object] = {"rule": rule, "passed": passed, "said": said[:MAX_TEXT]}
        if pipeline:
            note["pipeline"] = pipeline
        self._notes.append(note)

    def notes(self) -> list[dict[str, object]]:
        """What is stored."""
        if not self._more:
            return list(self._notes)
        return [*self._notes, {"rule": "trace", "passed": True, "said": f"{self._more} more notes were left out"}]
