"""What a GitLab job inherits: `extends`, `default`, the `!reference` lists in its scripts. On nodes, lines kept."""

from __future__ import annotations

from collections.abc import Collection

from gocdnext.importers.notes import ImportRefusedError, Notes
from gocdnext.importers.reading import MAX_FLATTENED, Part, text_of
from gocdnext.pipeline.nodes import Mapping, Node, Scalar, Sequence
from gocdnext.pipeline.problems import Problems, quoted
from gocdnext.pipeline.schema import entries, is_null

MAX_CHAIN = 11
"""Levels of `extends`; GitLab's own limit."""
MAX_COPIED = 100_000
"""Entries that all jobs together inherit."""
MAX_REFERENCES = 10


class Inheritance:
    def __init__(self, root: Part, keywords: Collection[str], notes: Notes) -> None:
        self._nodes = {name: node for name in root if name not in keywords and (node := root.take(name)) is not None}
        self._notes = notes
        self._done: dict[str, Mapping | None] = {}
        self._copied = 0

    def job(self, name: str, defaults: dict[str, Part]) -> Part | None:
        """The job with all it inherits; None when it extends what is not there."""
        node = self._resolved(name, ())
        if node is None:
            return None
        job = Part(node, self._notes)
        part = job.part("inherit")
        wanted = self._wanted(part)
        added = Mapping(node.line, node.column, list(node.pairs))
        for key, source in defaults.items():
            if key not in job and (wanted is None or key in wanted):
                value = source.take(key)
                if value is not None:
                    added.pairs.append((Scalar(key, source.line(key), 1), value))
        found = Part(added, self._notes)
        found.skip("inherit", "extends")
        return found

    def _wanted(self, part: Part | None) -> list[str] | None:
        """The keywords that `inherit: default` takes; None for all."""
        if part is None:
            return None
        if "variables" in part:
            advice = "every job gets all variables of the file"
            self._notes.add(part.line("variables"), "`inherit: variables`", advice)
        if "default" not in part:
            return None
        texts = part.texts("default")
        return None if texts == ["true"] else [] if texts == ["false"] else texts

    def _resolved(self, name: str, above: tuple[str, ...]) -> Mapping | None:
        if name not in self._done:
            self._done[name] = self._resolve(name, above)
        return self._done[name]

    def _resolve(self, name: str, above: tuple[str, ...]) -> Mapping | None:
        node = self._nodes.get(name)
        if not isinstance(node, Mapping):
            return None
        job = Part(node, self._notes)
        merged: Mapping | None = None
        for parent in job.texts("extends"):
            if parent in (name, *above) or len(above) >= MAX_CHAIN:
                raise ImportRefusedError(f"{quoted(name)} extends itself, or through too many levels", node.line)
            found = self._resolved(parent, (*above, name))
            if found is None:
                advice = "it is not in this file; the job is left out"
                self._notes.add(job.line("extends"), f"{quoted(name)} extends {quoted(parent)}", advice)
                return None
            merged = found if merged is None else self._merged(merged, found)
        return node if merged is None else self._merged(merged, node)

    def _merged(self, parent: Mapping, child: Mapping) -> Mapping:
        """Mappings are merged at every depth, everything else is the child's."""
        pairs = {name: (key, value) for name, key, value in entries(parent, Problems(""))}
        for name, key, value in entries(child, Problems("")):
            inherited = pairs.get(name, (None, None))[1]
            if isinstance(inherited, Mapping) and isinstance(value, Mapping):
                value = self._merged(inherited, value)
            pairs[name] = (key, value)
        self._copied += len(pairs)
        if self._copied > MAX_COPIED:
            raise ImportRefusedError("the jobs of this file inherit too much from one another", child.line)
        return Mapping(child.line, child.column, list(pairs.values()))

    def commands(self, job: Part, key: str) -> list[str]:
        """A script: its lists flattened, `!reference [job, key]` put in."""
        node = job.take(key)
        found: list[str] = []
        waiting: list[tuple[Node, int]] = [] if node is None else [(node, 0)]
        while waiting:
            item, depth = waiting.pop()
            if isinstance(item, Scalar):
                if not is_null(item):
                    found.append(text_of(item))
            elif isinstance(item, Sequence):
                target = self._referenced(item) if depth < MAX_REFERENCES else None
                if target is not None:
                    waiting.append((target, depth + 1))
                else:
                    waiting += [(inner, depth) for inner in reversed(item.items)]
            else:
                self._notes.add(item, f"an entry of `{key}`", "a mapping is no command; quote it")
            if len(found) > MAX_FLATTENED or len(waiting) > MAX_FLATTENED:
                raise ImportRefusedError(f"`{key}` has more than {MAX_FLATTENED:,} entries", job.line(key))
        return found

    def _referenced(self, node: Sequence) -> Node | None:
        """What `!reference [.setup, script]` names. Nodes of lists have no tag: the two words give it away."""
        names = [text_of(item) for item in node.items]
        if not 2 <= len(names) <= 4 or names[0] not in self._nodes:
            return None
        found: Node | None = self._resolved(names[0], ())
        for name in names[1:]:
            if not isinstance(found, Mapping):
                return None
            found = Part(found, self._notes).take(name)
        return found
