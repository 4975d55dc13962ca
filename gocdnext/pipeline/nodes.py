"""From text to a bounded tree of nodes: the only module that touches the YAML library.

Scalars stay text here; what they mean is decided by the schema (spec-pipelines 1.2). The tree is built from parse
events with a loop, so nesting cannot exhaust the stack, and it stops at the first limit that is passed, so a hostile
file costs no more than a large honest one. Aliases share the node they name; their expanded size counts.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import msgspec
import yaml

MAX_BYTES = 5 * 1024 * 1024
MAX_DEPTH = 100
MAX_KEYS = 4_000
"""Keys of one mapping, and so jobs of one file, hidden ones included."""
MAX_NODES = 80_000
"""Nodes of one file, aliases counted as often as they are used; 256 characters of a text count as one more.

A job has about 20, so this is some 4,000 jobs, or 20 MiB of text after aliases.
"""


class Scalar(msgspec.Struct, eq=False, gc=False):
    value: str
    line: int
    column: int
    plain: bool = True
    """Written without quotes and not as a block, so that `true`, `12` or nothing at all may mean something."""
    tag: str | None = None


class Sequence(msgspec.Struct, eq=False):
    line: int
    column: int
    items: list[Node]


class Mapping(msgspec.Struct, eq=False):
    line: int
    column: int
    pairs: list[tuple[Node, Node]]
    """Keys and values in file order; merge keys and duplicates are still there."""


Node = Scalar | Sequence | Mapping


class Unreadable(Exception):
    """The text is not a document: `kind` is `yaml_syntax`, `yaml_empty` or `limit`; line and column count from 1."""

    def __init__(self, kind: str, message: str, line: int = 1, column: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.kind, self.message, self.line, self.column, self.hint = kind, message, line, column, hint


# What YAML calls printable. A BOM is legal at the very start only.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def decode(data: str | bytes) -> str:
    """The text of a file. Raises `Unreadable` for what is too large, not UTF-8, or has characters YAML forbids."""
    if len(data) > MAX_BYTES:
        _too_large()
    if isinstance(data, bytes):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-8", "replace")
            _refuse_at(before, f"the file is not UTF-8: byte 0x{data[error.start]:02x}", "save the file as UTF-8")
    else:
        text = data
    found = _FORBIDDEN.search(text)
    if found:
        code = ord(found[0])
        name = "a NUL character" if code == 0 else f"the character U+{code:04X}"
        _refuse_at(text[: found.start()], f"{name} is not allowed in YAML", "remove it; is this a text file?")
    if isinstance(data, str) and len(text.encode()) > MAX_BYTES:
        _too_large()
    return text


def read(text: str) -> Node:
    """The first document of a decoded text as a tree; what follows it is not looked at. Raises `Unreadable`."""
    loader = yaml.CSafeLoader(text)
    try:
        return _Builder(loader).build()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = f"not valid YAML: {error.problem or error}"
        if error.context:
            message += f" ({error.context})"
        hint = ""
        if "cannot start any token" in message and _character(text, line, column) == "\t":
            hint = "indent with spaces, not with tabs"
        raise Unreadable("yaml_syntax", message, line, column, hint) from None
    except yaml.YAMLError as error:
        raise Unreadable("yaml_syntax", f"not valid YAML: {error}") from None
    finally:
        loader.dispose()


class _Frame(msgspec.Struct, eq=False):
    """A collection being filled: its children so far, keys and values in turn."""

    node: Mapping | Sequence
    anchor: str | None
    children: list[Node]
    before: int
    """What was counted before it: the difference is its size."""
    height: int = 1


class _Builder:
    """One walk over the events. `_open` is the chain of collections being filled, innermost last."""

    def __init__(self, loader: yaml.CSafeLoader) -> None:
        self._next = loader.get_event
        self._open: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int, int] | None] = {}
        """Node, size and height of each anchor; None while the node is still being filled."""
        self._total = 0

    def build(self) -> Node:
        self._next()  # StreamStart
        if type(self._next()) is yaml.StreamEndEvent:
            raise Unreadable("yaml_empty", "the file is empty", hint="a pipeline has at least `stages:` and `jobs:`")
        while True:
            event: Any = self._next()
            kind = type(event)
            done: Node | None = None
            if kind is yaml.ScalarEvent:
                done = self._scalar(event)
            elif kind is yaml.MappingStartEvent:
                self._start(event, Mapping(0, 0, []))
            elif kind is yaml.SequenceStartEvent:
                self._start(event, Sequence(0, 0, []))
            elif kind is yaml.AliasEvent:
                done = self._alias(event)
            else:
                done = self._end()
            if done is not None:
                return done

    def _scalar(self, event: Any) -> Node | None:
        mark, value = event.start_mark, event.value
        if "\0" in value:
            message = "text with a NUL character cannot be used"
            raise Unreadable("yaml_syntax", message, mark.line + 1, mark.column + 1)
        node = Scalar(value, mark.line + 1, mark.column + 1, not event.style, event.tag)
        size = 1 + (len(value) >> 8)
        self._total += size
        if self._total > MAX_NODES:
            self._refuse_size(mark)
        if event.anchor:
            self._anchors[event.anchor] = (node, size, 1)
        if not self._open:
            return node
        frame = self._open[-1]
        frame.children.append(node)
        if len(frame.children) > 2 * MAX_KEYS and type(frame.node) is Mapping:
            self._refuse_keys(frame.node, mark)
        return None

    def _start(self, event: Any, node: Mapping | Sequence) -> None:
        mark = event.start_mark
        before = self._total
        self._count(1, 1, mark)
        if event.anchor:
            self._anchors[event.anchor] = None
        node.line, node.column = mark.line + 1, mark.column + 1
        self._open.append(_Frame(node, event.anchor, [], before))

    def _end(self) -> Node | None:
        frame = self._open.pop()
        node, children = frame.node, frame.children
        if isinstance(node, Sequence):
            node.items = children
        else:
            node.pairs = list(zip(children[::2], children[1::2], strict=True))
        height = max(frame.height, 2 if children else 1)
        if frame.anchor:
            self._anchors[frame.anchor] = (node, self._total - frame.before, height)
        return self._attach(node, height)

    def _alias(self, event: Any) -> Node | None:
        name, mark = event.anchor, event.start_mark
        line, column = mark.line + 1, mark.column + 1
        if name not in self._anchors:
            message = f"alias {_named('*', name)} has no anchor {_named('&', name)} before it"
            raise Unreadable("yaml_syntax", message, line, column, "define the anchor first")
        found = self._anchors[name]
        if found is None:
            raise Unreadable("yaml_syntax", f"anchor {_named('&', name)} contains itself", line, column)
        node, size, height = found
        self._count(size, height, mark)
        return self._attach(node, height)

    def _attach(self, node: Node, height: int) -> Node | None:
        """Give a finished node to the collection around it; without one it is the document."""
        if not self._open:
            return node
        frame = self._open[-1]
        if height >= frame.height:
            frame.height = height + 1
        frame.children.append(node)
        return None

    def _count(self, size: int, height: int, mark: Any) -> None:
        self._total += size
        if self._total > MAX_NODES:
            self._refuse_size(mark)
        if len(self._open) + height > MAX_DEPTH:
            raise Unreadable("limit", f"nested deeper than {MAX_DEPTH} levels", mark.line + 1, mark.column + 1)

    def _refuse_keys(self, node: Mapping, mark: Any) -> NoReturn:
        message = f"the mapping that starts on line {node.line} has more than {MAX_KEYS:,} keys"
        hint = "split the pipeline into several files"
        raise Unreadable("limit", message, mark.line + 1, mark.column + 1, hint)

    def _refuse_size(self, mark: Any) -> NoReturn:
        message = f"the file has more than {MAX_NODES:,} values (aliases are counted each time they are used)"
        raise Unreadable("limit", message, mark.line + 1, mark.column + 1, "split the pipeline into several files")


def _named(sign: str, anchor: str) -> str:
    return f"`{sign}{anchor if len(anchor) <= 40 else anchor[:39] + '…'}`"


def _too_large() -> NoReturn:
    raise Unreadable("limit", f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB")


def _refuse_at(before: str, message: str, hint: str) -> NoReturn:
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    raise Unreadable("yaml_syntax", message, line, column, hint)


def _character(text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    return lines[line - 1][column - 1 : column] if line <= len(lines) else ""
