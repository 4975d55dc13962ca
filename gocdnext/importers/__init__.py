"""Pipelines of other systems, translated: text in, a pipeline file of ours and notes out. Nothing here does I/O.

Each importer translates what has an equal here and notes, with its line, everything it left out or changed. Its result
is read back with our own parser before anybody sees it.
"""

from __future__ import annotations

from gocdnext.importers.github import import_github
from gocdnext.importers.gitlab import import_gitlab
from gocdnext.importers.notes import Imported, ImportRefusedError, Note

__all__ = ["ImportRefusedError", "Imported", "Note", "import_github", "import_gitlab"]
