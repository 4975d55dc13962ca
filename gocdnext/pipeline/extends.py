"""Inheritance between jobs (spec-pipelines 4, with design 9 decision 10: a child's block replaces the parent's)."""

from __future__ import annotations

from typing import cast

from gocdnext.pipeline.context import Context
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import UNREADABLE, Block

MAX_CHAIN = 50
"""Jobs in one line of inheritance."""
MAX_INHERITED = 100_000
"""Values that all jobs of a file together may inherit (256 characters of text count as one more)."""

_MAPS = ("settings", "with", "variables")
# Child if not empty or zero; `docker` can only be added.
_SCALARS = ("stage", "image", "uses", "timeout", "retry", "cluster", "docker")
_NEVER = ("extends", "environment")


def resolve(jobs: dict[str, Block], context: Context) -> dict[str, Block]:
    """The jobs, hidden ones included, with everything they inherit; one in a broken chain is marked UNREADABLE."""
    return _Inheritance(jobs, context).resolve()


class _Inheritance:
    def __init__(self, jobs: dict[str, Block], context: Context) -> None:
        self._jobs = jobs
        self._context = context
        self._done: dict[str, Block] = {}
        self._weights: dict[str, int] = {}
        self._inherited = 0

    def resolve(self) -> dict[str, Block]:
        for name in sorted(self._jobs):
            chain = self._chain(name)
            while chain:
                child = chain.pop()
                if child not in self._done:
                    self._done[child] = self._resolved(child)
        return self._done

    def _chain(self, name: str) -> list[str]:
        """The job and its ancestors that are not resolved yet, root last. Breaks what cannot be resolved."""
        chain, seen = [name], {name}
        while chain[-1] not in self._done:
            block = self._jobs[chain[-1]]
            parent = block.text("extends")
            if not parent:
                break
            if parent not in self._jobs:
                message = f"the job extends {quoted(parent)}, which does not exist"
                self._context.add("extends_unknown", block.where("extends"), message, self._close(parent))
                self._break(chain[-1:])
                break
            if parent in seen:
                self._report_cycle(chain[chain.index(parent) :])
                self._break(chain)
                break
            if len(chain) >= MAX_CHAIN:
                message = f"more than {MAX_CHAIN} jobs extend one another"
                self._context.add("limit", block.where("extends"), message)
                self._break(chain)
                break
            chain.append(parent)
            seen.add(parent)
        return chain

    def _report_cycle(self, cycle: list[str]) -> None:
        first = cycle.index(min(cycle))
        names = [*cycle[first:], *cycle[:first], cycle[first]]
        shown = " → ".join(quoted(name) for name in names[:8]) + (" → …" if len(names) > 8 else "")
        message = "the job extends itself" if len(cycle) == 1 else f"jobs extend each other in a circle: {shown}"
        self._context.add("extends_cycle", self._jobs[names[0]].where("extends"), message)

    def _break(self, names: list[str]) -> None:
        for name in names:
            block = self._jobs[name]
            block.bad.add(UNREADABLE)
            block.broken = True
            self._done[name] = block

    def _close(self, parent: str) -> str:
        hidden = f".{parent}"
        return f"did you mean `{hidden}`?" if hidden in self._jobs else ""

    def _resolved(self, name: str) -> Block:
        child = self._jobs[name]
        parent_name = child.text("extends")
        if not parent_name:
            return child
        if parent_name not in self._weights:
            self._weights[parent_name] = _weight(self._done[parent_name])
        self._inherited += self._weights[parent_name]
        if self._inherited > MAX_INHERITED:
            if self._inherited - self._weights[parent_name] > MAX_INHERITED:
                self._break([name])  # reported with the first job over the limit
                return child
            message = f"the jobs of this file inherit more than {MAX_INHERITED:,} values"
            self._context.add("limit", child.where("extends"), message, "split the pipeline into several files")
            self._break([name])
            return child
        return _merged(child, self._done[parent_name])


def _merged(child: Block, parent: Block) -> Block:
    block = Block(child.node, child.key)
    block.bad = child.bad | (parent.bad - set(_NEVER))
    block.broken = parent.broken
    keys = dict.fromkeys((*parent.values, *child.values))
    for key in keys:
        source = child if _own(child, parent, key) else parent
        if source is parent and key in _NEVER:
            continue
        block.values[key] = source.values[key]
        if key in source.nodes:
            block.nodes[key] = source.nodes[key]
        if key in _MAPS and key in child.values and key in parent.values:
            block.values[key] = {**parent.map(key), **child.map(key)}
    for key in child.bad | parent.bad:
        node = child.nodes.get(key) or parent.nodes.get(key)
        if node is not None:
            block.nodes.setdefault(key, node)
    return block


def _own(child: Block, parent: Block, key: str) -> bool:
    if key not in child.values:
        return False
    return key not in _SCALARS or key not in parent.values or bool(child.values[key])


def _weight(value: object) -> int:
    if isinstance(value, str):
        return 1 + (len(value) >> 8)
    if isinstance(value, tuple):
        return 1 + sum(_weight(item) for item in cast("tuple[object, ...]", value))
    if isinstance(value, dict):
        return 1 + sum(1 + (len(key) >> 8) + _weight(item) for key, item in cast("dict[str, object]", value).items())
    if isinstance(value, Block):
        return 1 + sum(_weight(item) for item in value.values.values())
    return 1
