"""Texts of a GitLab job that have to be fixed before it runs, because nothing is put into them later."""

from __future__ import annotations

from dataclasses import dataclass

from gocdnext.importers import gitlab_variables as variables
from gocdnext.importers.notes import Notes
from gocdnext.importers.reading import Part
from gocdnext.pipeline.problems import quoted


@dataclass
class Fixed:
    """Puts known variables into texts of one instance of a job."""

    called: str
    """The job, as notes name it."""
    known: dict[str, str]
    notes: Notes

    def plain(self, what: str, text: str, line: int) -> str:
        """A text in which variables cannot be used here: known ones are put in, others end in a note and nothing."""
        found = variables.expanded(text, self.known)
        names = variables.unresolved(found)
        if not names:
            return found.replace("$$", "$")
        advice = f"`${names[0]}` is only known when the job runs; write a fixed text"
        self.notes.add(line, f"{what} {quoted(text)} of {self.called}", advice)
        return ""

    def plains(self, key: str, part: Part) -> list[str]:
        """The texts of a list, without those that are not known beforehand."""
        texts = (self.plain(f"`{key}`", text, part.line(key)) for text in part.texts(key))
        return [text for text in texts if text]
