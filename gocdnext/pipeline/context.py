"""What the checks of one file share. A place to pass things along; it checks nothing itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gocdnext.pipeline.nodes import Node
from gocdnext.pipeline.problems import Problems

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""A variable as a POSIX shell knows it."""
RESERVED_PREFIXES = ("CI_", "GOCDNEXT_")
CLUSTER = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Context:
    def __init__(self, problems: Problems, refusals: Problems) -> None:
        self.problems = problems
        """What makes the file unreadable as a pipeline."""
        self.refusals = refusals
        """What the language reads but apply and `validate` refuse (design 9, decisions 11 and 13)."""
        self.stages: dict[str, int] | None = None
        """Stage name to its (last) position; None when the list could not be read, so that nothing is blamed on it."""
        self.variables: Mapping[str, str] = {}
        self.instances = 0
        """Matrix instances of the file so far."""

    def add(self, kind: str, node: Node, message: str, hint: str = "") -> None:
        self.problems.add(kind, node, message, hint)
