"""What is wrong with a pipeline file, and where: values to show, and the collector that the readers write into.

Wording lives with the checks; this module only places, orders and bounds problems. It knows nothing of the language.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice

import msgspec

from gocdnext.pipeline.nodes import Mapping, Node, Scalar, Sequence

MAX_PROBLEMS = 200
"""Problems kept per file. Further ones are counted by nobody: a file this broken is corrected in rounds."""
MAX_SUGGESTIONS = 6
"""Searches for a similar word per file, each among at most MAX_CANDIDATES words: comparing words is slow."""
MAX_CANDIDATES = 50
_MAX_WORD = 40

_PLAIN_SEGMENT = re.compile(r"[\w-]+")


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to correct. `line` and `column` count from 1 (column in characters); `kind` is a stable identifier."""

    file: str
    line: int
    column: int
    path: str
    """Where in the file's structure, as `jobs.build.cache[0].key`; empty for the file as a whole."""
    kind: str
    message: str
    hint: str = ""
    """What to do about it, where that can be known."""

    def __str__(self) -> str:
        place = f" ({self.path})" if self.path else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{place}{hint}"


class PipelineError(Exception):
    """A file or a set of files that is refused; `problems` has every reason, sorted by file and position."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=_position))
        super().__init__(self.problems)

    def __str__(self) -> str:
        first, rest = str(self.problems[0]), len(self.problems) - 1
        if not rest:
            return first
        return f"{first} (and {rest} more {'problem' if rest == 1 else 'problems'})"


class Problems:
    """Collects the problems of one file. Paths are found once, at the end, and only for nodes that have a problem."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[tuple[int, str, str], tuple[Node, str]] = {}
        self._suggestions = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def full(self) -> bool:
        return len(self._found) >= MAX_PROBLEMS

    def add(self, kind: str, node: Node, message: str, hint: str = "") -> None:
        """Note a problem at a node. The same words at the same node (an inherited or aliased part) count once."""
        if not self.full:
            self._found.setdefault((id(node), kind, message), (node, hint))

    def suggest(self, word: str, known: Iterable[str]) -> str:
        """A hint such as "did you mean `needs`?" when one of the known words is similar, else an empty text."""
        if self.full or self._suggestions >= MAX_SUGGESTIONS or len(word) > _MAX_WORD:
            return ""
        self._suggestions += 1
        similar = (name for name in known if abs(len(name) - len(word)) <= 3)
        candidates = list(islice(similar, MAX_CANDIDATES))
        close = difflib.get_close_matches(word, candidates, 1, 0.7)
        return f"did you mean `{close[0]}`?" if close else ""

    def listed(self, root: Node) -> tuple[Problem, ...]:
        """Every problem with its path below `root`, by position."""
        if not self._found:
            return ()
        paths = _paths(root, {id(node) for node, _ in self._found.values()})
        problems = [
            Problem(
                file=self._file,
                line=node.line,
                column=node.column,
                path=paths.get(key[0], ""),
                kind=key[1],
                message=key[2],
                hint=hint,
            )
            for key, (node, hint) in self._found.items()
        ]
        return tuple(sorted(problems, key=_position))


def quoted(text: str, limit: int = 60) -> str:
    """A piece of the user's text for use inside a message: in backquotes, on one line, at most `limit` characters."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return "`" + "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown) + "`"


def _position(problem: Problem) -> tuple[str, int, int]:
    return problem.file, problem.line, problem.column


def _paths(root: Node, wanted: set[int]) -> dict[int, str]:
    """The path of each wanted node: the first one in document order. A key has the path of its value."""
    found: dict[int, str] = {}
    seen: set[int] = set()
    stack: list[tuple[Node, str]] = [(root, "")]
    while stack and len(found) < len(wanted):
        node, path = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in wanted:
            found[id(node)] = path
        # Most nodes are scalars without a problem: for them no path is made.
        if isinstance(node, Sequence):
            for index in range(len(node.items) - 1, -1, -1):
                item = node.items[index]
                if type(item) is not Scalar or id(item) in wanted:
                    stack.append((item, f"{path}[{index}]"))
        elif isinstance(node, Mapping):
            for key, value in reversed(node.pairs):
                if type(value) is not Scalar or id(value) in wanted or id(key) in wanted:
                    below = path_below(path, key.value if isinstance(key, Scalar) else "?")
                    stack += ((value, below), (key, below))
    return found


def path_below(path: str, text: str) -> str:
    """The path of a key below another path: `jobs.build`, or `jobs["with space"]`."""
    if len(text) > 80:
        text = text[:79] + "…"
    if not _PLAIN_SEGMENT.fullmatch(text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'{path}["{"".join(c if c.isprintable() else "�" for c in escaped)}"]'
    return f"{path}.{text}" if path else text
