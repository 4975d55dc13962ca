"""Readers that turn nodes into values of a wanted shape, reporting what does not fit (spec-pipelines 1.2).

A schema is a tree of readers; `language.py` has the one of pipeline files. A reader answers the value, None for what
counts as absent, or BAD after it reported a problem, so that later checks stay silent about a part nobody could read.
The readers check shapes only; what values mean together is checked afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as ReadMapping
from typing import Final, Protocol, TypeVar, cast

from gocdnext.pipeline import scalars
from gocdnext.pipeline.nodes import Mapping, Node, Scalar, Sequence
from gocdnext.pipeline.problems import Problems, quoted

T = TypeVar("T")


class _Bad:
    def __repr__(self) -> str:
        return "BAD"


BAD: Final = _Bad()
UNREADABLE = "*"
"""In `Block.bad`: some part of the block could not be attributed to a key, or the block is no mapping at all."""


class Reader(Protocol):
    def read(self, node: Node, problems: Problems) -> object: ...


class Block:
    """A mapping that was read against its schema: values by key, and the node that each value came from."""

    __slots__ = ("bad", "broken", "kept", "key", "node", "nodes", "values")

    def __init__(self, node: Node, key: Node | None = None) -> None:
        self.node = node
        self.key = key or node
        """The key under which the block stands, for problems about the block as a whole."""
        self.values: dict[str, object] = {}
        self.nodes: dict[str, Node] = {}
        self.bad: set[str] = set()
        """Keys whose values had a problem."""
        self.kept: dict[str, list[Node]] = {}
        self.broken = False
        """What it inherits is unknown: the chain of parents has a problem."""

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def has(self, key: str) -> bool:
        """Whether the key is present, readable or not."""
        return key in self.values or key in self.bad

    def lacks(self, key: str) -> bool:
        """Whether a missing value is to be blamed on the author: nothing unreadable stands in its place."""
        return key not in self.bad and UNREADABLE not in self.bad

    def where(self, key: str) -> Node:
        """The node to blame for a value; the block's key when there is none."""
        return self.nodes.get(key, self.key)

    def text(self, key: str) -> str:
        return cast("str", self.values.get(key, ""))

    def flag(self, key: str) -> bool:
        return cast("bool", self.values.get(key, False))

    def integer(self, key: str, default: int = 0) -> int:
        return cast("int", self.values.get(key, default))

    def texts(self, key: str) -> tuple[str, ...]:
        return cast("tuple[str, ...]", self.values.get(key, ()))

    def map(self, key: str) -> dict[str, str]:
        return cast("dict[str, str]", self.values.get(key, {}))

    def block(self, key: str) -> Block | None:
        return cast("Block | None", self.values.get(key))

    def blocks(self, key: str) -> tuple[Block, ...]:
        return cast("tuple[Block, ...]", self.values.get(key, ()))

    def named_blocks(self, key: str) -> dict[str, Block]:
        return cast("dict[str, Block]", self.values.get(key, {}))

    def item(self, key: str, index: int) -> Node:
        """The node of the index-th element that is not null of a list."""
        node = self.where(key)
        if isinstance(node, Sequence) and key not in self.kept:
            self.kept[key] = [item for item in node.items if not is_null(item)]
        kept = self.kept.get(key, [])
        return kept[index] if index < len(kept) else node

    def entry(self, key: str, name: str) -> Node:
        """The key node of an entry of a map; the map itself for an entry that came by inheritance."""
        node = self.where(key)
        return entry_node(node, name) or node


def entry_node(node: Node, name: str) -> Node | None:
    """The key node called `name` of a mapping, merges included."""
    return key_nodes(node).get(name)


def key_nodes(node: Node) -> dict[str, Node]:
    """The key nodes of a mapping by name, merges included; empty for other nodes."""
    return {text: key for text, key, _ in _pairs(node, None)} if isinstance(node, Mapping) else {}


def is_null(node: Node) -> bool:
    if not isinstance(node, Scalar):
        return False
    if node.tag is None:
        return node.plain and node.value in scalars.NULLS
    try:
        return scalars.core_tag(node) == "null"
    except scalars.Misfit:
        return False


class Text:
    """Any scalar, with its literal spelling."""

    def read(self, node: Node, problems: Problems) -> object:
        if type(node) is not Scalar:
            return _misfit(node, problems, "text")
        if node.tag is None:
            return None if node.plain and node.value in scalars.NULLS else node.value
        return _scalar(scalars.text, node, problems)


class Boolean:
    def read(self, node: Node, problems: Problems) -> object:
        if type(node) is not Scalar:
            return _misfit(node, problems, "true or false")
        return _scalar(scalars.boolean, node, problems)


class Integer:
    def read(self, node: Node, problems: Problems) -> object:
        if type(node) is not Scalar:
            return _misfit(node, problems, "a number")
        return _scalar(scalars.integer, node, problems)


class Number:
    def read(self, node: Node, problems: Problems) -> object:
        if type(node) is not Scalar:
            return _misfit(node, problems, "a number")
        return _scalar(scalars.number, node, problems)


class Raw:
    """The node itself, null included, for a value whose own rules decide everything."""

    def read(self, node: Node, problems: Problems) -> object:
        return node


class ListOf:
    """A list. Null elements disappear, or become `empty` where one is given."""

    def __init__(self, item: Reader, empty: object = None) -> None:
        self.item = item
        self.empty = empty

    def read(self, node: Node, problems: Problems) -> object:
        if type(node) is not Sequence:
            if is_null(node):
                return None
            return _misfit(node, problems, "a list", "write it as `[…]`" if isinstance(node, Scalar) else "")
        values, bad, read = [], False, self.item.read
        for element in node.items:
            value = read(element, problems)
            if value is BAD:
                bad = True
            elif value is not None or (value := self.empty) is not None:
                values.append(value)
        return BAD if bad else tuple(values)


class MapOf:
    """A mapping with free keys. A null value becomes `empty`, or an empty block if the values are blocks."""

    def __init__(self, value: Reader, empty: object = "", *, partial: bool = False, limit: int = 0) -> None:
        self.value = value
        self.limit = limit
        """Entries at most; 0 for no limit but that of the file."""
        self.empty = empty
        self.partial = partial
        """One unreadable value does not spoil the map: it becomes a block marked UNREADABLE."""

    def read(self, node: Node, problems: Problems) -> object:
        if type(node) is not Mapping:
            return None if is_null(node) else _misfit(node, problems, "a mapping")
        found = entries(node, problems)
        if self.limit and len(found) > self.limit:
            message = f"{len(found):,} entries, at most {self.limit:,} are allowed in one file"
            problems.add("limit", node, message, "split the pipeline into several files")
            return BAD
        values: dict[str, object] = {}
        read = self.value.read
        for name, key, below in found:
            if problems.full:
                return BAD
            value = read(below, problems)
            if value is None:
                value = Block(below) if isinstance(self.value, Fields) else self.empty
            if value is BAD and self.partial:
                value = Block(below)
                value.bad.add(UNREADABLE)
            if isinstance(value, Block):
                value.key = key
            if value is not BAD:
                values[name] = value
        return values if len(found) == len(values) else BAD


class Fields:
    """A mapping with known keys. `called` is what messages call it, `hints` says more about keys people expect here."""

    def __init__(
        self,
        called: str,
        fields: dict[str, Reader],
        hints: dict[str, str] | None = None,
        *,
        null: bool = False,
        tolerant: bool = False,
    ) -> None:
        self.called = called
        self.fields = fields
        self.hints = hints or {}
        self.tolerant = tolerant
        """Unknown keys are passed over."""
        self.null = null
        """Null is an empty block here, not an absent one."""

    def read(self, node: Node, problems: Problems) -> object:
        if type(node) is not Mapping:
            if is_null(node):
                return Block(node) if self.null else None
            return _misfit(node, problems, "a mapping")
        block, fields = Block(node), self.fields
        for name, key, below in entries(node, problems):
            reader = fields.get(name)
            if reader is None:
                if self.tolerant:
                    continue
                if problems.full:
                    return BAD
                problems.add(
                    "unknown_key", key, f"unknown key {quoted(name)} in {self.called}", self._hint(name, problems)
                )
                block.bad.add(UNREADABLE)
                continue
            value = reader.read(below, problems)
            block.nodes[name] = below
            if value is BAD:
                block.bad.add(name)
            elif value is not None:
                block.values[name] = value
                if isinstance(value, Block):
                    value.key = key
        return block

    def _hint(self, name: str, problems: Problems) -> str:
        if name in self.hints:
            return self.hints[name]
        return problems.suggest(name.lower(), self.fields)


def each(values: ReadMapping[str, Block]) -> Iterator[tuple[str, Block]]:
    """The named blocks of a map in name order: problems and results do not depend on the order in the file."""
    return iter(sorted(values.items()))


def entries(node: Mapping, problems: Problems) -> list[tuple[str, Node, Node]]:
    """Key text, key node and value node of every entry: duplicates reported, merge keys resolved, own keys first."""
    return _pairs(node, problems)


def _pairs(node: Mapping, problems: Problems | None) -> list[tuple[str, Node, Node]]:
    found: dict[str, tuple[str, Node, Node]] = {}
    merged: Node | None = None
    for key, value in node.pairs:
        if type(key) is not Scalar:
            if problems is not None:
                _misfit(key, problems, "text as a key")
            continue
        if key.tag is None and key.value not in scalars.NULLS and key.value != "<<":
            name: object = key.value
        elif _is_merge(key):
            if merged is not None and problems is not None:
                problems.add("duplicate_key", key, "the merge key `<<` appears twice", "merge a list: `<<: [*a, *b]`")
            merged = value
            continue
        else:
            name = _key_text(key, problems)
        if not isinstance(name, str):
            continue
        if name in found:
            if problems is not None:
                first = found[name][1].line
                problems.add("duplicate_key", key, f"the key {quoted(name)} is already set on line {first}")
            continue
        found[name] = (name, key, value)
    if merged is not None:
        for source in merged.items if isinstance(merged, Sequence) else [merged]:
            if isinstance(source, Mapping):
                for entry in _pairs(source, problems):
                    found.setdefault(entry[0], entry)
            elif problems is not None:
                _misfit(source, problems, "a mapping (or a list of mappings) to merge")
    return list(found.values())


def _is_merge(key: Scalar) -> bool:
    return key.plain and key.value == "<<" and key.tag in (None, "!", "tag:yaml.org,2002:merge")


def _key_text(key: Scalar, problems: Problems | None) -> str | None:
    try:
        name = scalars.text(key)
    except scalars.Misfit as misfit:
        if problems is not None:
            problems.add("wrong_type", key, f"this key cannot be read: {misfit}")
        return None
    if name is None and problems is not None:
        problems.add("wrong_type", key, "a key cannot be null", 'write `""` if it is meant to be empty')
    return name


class _Coercion(Protocol):
    def __call__(self, scalar: Scalar, /) -> object: ...


def _scalar(coerce: _Coercion, node: Scalar, problems: Problems) -> object:
    try:
        return coerce(node)
    except scalars.Misfit as misfit:
        hint = "" if node.plain or node.tag else "remove the quotes"
        problems.add("wrong_type", node, str(misfit), hint if "quoted" in str(misfit) else "")
        return BAD


def _misfit(node: Node, problems: Problems, wanted: str, hint: str = "") -> _Bad:
    if isinstance(node, Scalar):
        try:
            found = scalars.described(node)
        except scalars.Misfit as misfit:
            found = f"a scalar: {misfit}"
    else:
        found = "a list" if isinstance(node, Sequence) else "a mapping"
    problems.add("wrong_type", node, f"expected {wanted}, not {found}", hint)
    return BAD
