"""Foreign YAML as importers look at it: mappings whose keys are asked for one by one, so that the rest can be noted.

Built on the bounded nodes of the pipeline reader: size, depth and aliases are limited there. Wrong shapes become notes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gocdnext.importers.notes import Imported, ImportRefusedError, Notes
from gocdnext.pipeline import nodes, scalars
from gocdnext.pipeline.nodes import Mapping, Node, Scalar, Sequence
from gocdnext.pipeline.problems import Problems, quoted
from gocdnext.pipeline.schema import entries, is_null

MAX_BYTES = 1024 * 1024
MAX_FLATTENED = 20_000
"""Texts of one list, lists in it included."""


class Part:
    """A mapping. A key that nobody asked for is noted by `rest`."""

    def __init__(self, node: Mapping, notes: Notes) -> None:
        self.node = node
        self.notes = notes
        self._entries = {name: (key, value) for name, key, value in entries(node, Problems(""))}
        self._seen: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, key: str) -> bool:
        """Whether the key is there with a value."""
        return key in self._entries and not is_null(self._entries[key][1])

    def line(self, key: str) -> int:
        """The line of a key; that of the mapping when it is not there."""
        return self._entries[key][0].line if key in self._entries else self.node.line

    def take(self, key: str) -> Node | None:
        """The value of a key, which counts as dealt with; None when it is absent or null."""
        self._seen.add(key)
        return self._entries[key][1] if key in self else None

    def peek(self, key: str) -> Node | None:
        """The value of a key, which does not count as dealt with by that."""
        return self._entries[key][1] if key in self else None

    def skip(self, *keys: str) -> None:
        """These need no word."""
        self._seen.update(keys)

    def text(self, key: str, default: str = "") -> str:
        node = self.take(key)
        if node is None:
            return default
        if not isinstance(node, Scalar):
            self._odd(key, "a text")
            return default
        return text_of(node)

    def texts(self, key: str) -> list[str]:
        """A list of texts; one text counts as a list, lists in the list are part of it."""
        node = self.take(key)
        return [] if node is None else self._flat(key, node)

    def _flat(self, key: str, node: Node) -> list[str]:
        found: list[str] = []
        waiting = [node]
        while waiting:
            item = waiting.pop()
            if isinstance(item, Scalar):
                if not is_null(item):
                    found.append(text_of(item))
            elif isinstance(item, Sequence):
                waiting.extend(reversed(item.items))
            else:
                self.notes.add(item, f"an entry of `{key}`", "a mapping cannot be translated here; left out")
            if len(found) > MAX_FLATTENED:
                raise ImportRefusedError(f"`{key}` has more than {MAX_FLATTENED:,} entries", node.line)
        return found

    def flag(self, key: str) -> bool:
        node = self.take(key)
        if node is None:
            return False
        if isinstance(node, Scalar):
            return node.value.lower() == "true"
        self._odd(key, "true or false")
        return False

    def part(self, key: str) -> Part | None:
        node = self.take(key)
        if node is None:
            return None
        if not isinstance(node, Mapping):
            self._odd(key, "a mapping")
            return None
        return Part(node, self.notes)

    def items(self, key: str) -> list[Node]:
        """The elements of a list that are not null; a single value counts as a list."""
        node = self.take(key)
        if node is None:
            return []
        return [item for item in node.items if not is_null(item)] if isinstance(node, Sequence) else [node]

    def map(self, key: str) -> dict[str, str]:
        """A mapping of texts; null is an empty text."""
        part = self.part(key)
        return {name: part.text(name) for name in part} if part is not None else {}

    def rest(self, of: str, advice: dict[str, str]) -> None:
        """Note the keys that nobody asked for; `advice` by key, "" for a general word."""
        for key in self._entries:
            if key not in self._seen:
                said = advice.get(key, "there is no equal here; left out")
                self.notes.add(self.line(key), f"{quoted(key)} in {of}", said)

    def _odd(self, key: str, wanted: str) -> None:
        self.notes.add(self.line(key), quoted(key), f"expected {wanted}; left out")


def translate_file(text: str | bytes, translate: Callable[[Part, Notes], Imported]) -> Imported:
    """What `translate` makes of a file. Raises `ImportRefusedError`, with the notes so far where it has none of its own."""
    notes = Notes()
    try:
        return translate(_document(text, notes), notes)
    except ImportRefusedError as error:
        raise ImportRefusedError(error.message, error.line, error.notes or notes.listed()) from None


def _document(text: str | bytes, notes: Notes) -> Part:
    """The mapping that a file is. Raises `ImportRefusedError` for what is no YAML, too large, or something else."""
    if len(text) > MAX_BYTES:
        raise ImportRefusedError(f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        root = nodes.read(nodes.decode(text))
    except nodes.Unreadable as error:
        hint = f"; {error.hint}" if error.hint else ""
        raise ImportRefusedError(f"{error.message}{hint}", error.line) from None
    if not isinstance(root, Mapping):
        raise ImportRefusedError("the file is not a mapping of keys to values", root.line)
    return Part(root, notes)


def text_of(node: Node) -> str:
    """The spelling of a scalar; empty for null and for anything else."""
    if not isinstance(node, Scalar):
        return ""
    try:
        return scalars.text(node) or ""
    except scalars.Misfit:
        return node.value
