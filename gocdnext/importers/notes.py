"""What an importer says about a file: notes by line, and the reasons to give up. Knows no language."""

from __future__ import annotations

import msgspec

from gocdnext.pipeline import Pipeline
from gocdnext.pipeline.nodes import Node

MAX_NOTES = 500
"""Notes kept per file; one more says that there were others."""
_MAX_TEXT = 400


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not, or not quite, the same in the result. `line` counts from 1 in the file that was read."""

    line: int
    what: str
    advice: str
    """Why, or what to do about it."""

    def __str__(self) -> str:
        return f"{self.line}: {self.what}: {self.advice}"


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A translated file. `yaml` is a valid pipeline; `pipeline` is how our parser reads it."""

    name: str
    """For the file: `.gocdnext/NAME.yaml`."""
    yaml: str
    notes: tuple[Note, ...]
    pipeline: Pipeline


class ImportRefusedError(Exception):
    """Nothing useful can be made of the file. `notes` has what was found out until then."""

    def __init__(self, message: str, line: int = 1, notes: tuple[Note, ...] = ()) -> None:
        super().__init__(message)
        self.message, self.line, self.notes = message, line, notes


class Notes:
    """Collects notes; the same words for the same line count once."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], Note] = {}
        self._more = 0

    def add(self, place: Node | int, what: str, advice: str) -> None:
        line = place if isinstance(place, int) else place.line
        what, advice = _one_line(what), _one_line(advice)
        if (line, what) in self._found:
            return
        if len(self._found) >= MAX_NOTES:
            self._more += 1
            return
        self._found[line, what] = Note(line=line, what=what, advice=advice)

    def listed(self) -> tuple[Note, ...]:
        """By line; several of one line in the order they were found."""
        notes = sorted(self._found.values(), key=lambda note: note.line)
        if self._more:
            last = notes[-1].line
            notes.append(Note(line=last, what=f"{self._more:,} more notes", advice="correct these first"))
        return tuple(notes)


def _one_line(text: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown if len(shown) <= _MAX_TEXT else shown[: _MAX_TEXT - 1] + "…"
