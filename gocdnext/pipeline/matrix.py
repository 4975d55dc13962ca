"""The instances of a matrix job (spec-pipelines 3.6): dimensions sorted by name, the first one slowest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from typing import cast

from gocdnext.pipeline.context import NAME, RESERVED_PREFIXES, Context
from gocdnext.pipeline.job_parts import names_in_use
from gocdnext.pipeline.nodes import Node, Sequence
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import Block, key_nodes

MAX_INSTANCES = 1_000
"""Of one job."""
MAX_FILE_INSTANCES = 10_000
MAX_KEY_LENGTH = 1_024
"""Characters of one instance key."""


def instances(job: Block, context: Context) -> tuple[str, ...]:
    """The instance keys `D1=v1,D2=v2` in creation order; empty for a job without matrix or with a wrong one."""
    parallel = job.block("parallel")
    if parallel is None or "matrix" not in parallel:
        return ()
    entries = cast("tuple[dict[str, tuple[str, ...]], ...]", parallel.values["matrix"])
    if len(entries) > MAX_INSTANCES:
        message = f"the matrix has {len(entries):,} entries, at most {MAX_INSTANCES:,} are allowed"
        context.add("matrix_limit", parallel.where("matrix"), message)
        return ()
    dimensions: dict[str, dict[str, None]] = {}
    places: dict[str, Node] = {}
    sound = True
    for index, entry in enumerate(entries):
        node = _entry(parallel, index)
        if not entry:
            context.add("matrix_empty", node, "the matrix entry has no dimension", "write `NAME: [values]`")
            sound = False
        keys = key_nodes(node)
        for name, values in entry.items():
            places.setdefault(name, keys.get(name, node))
            known = dimensions.setdefault(name, {})
            sound &= _check_values(name, values, known, keys.get(name, node), context)
            known.update(dict.fromkeys(values))
    in_use = names_in_use(job, context)
    in_use["identity token of the job"] = job.named_blocks("id_tokens")
    for name, place in places.items():
        sound &= _check_name(name, in_use, place, context)
    if not sound or not dimensions:
        return ()
    return _product(dimensions, parallel.where("matrix"), context)


def _entry(parallel: Block, index: int) -> Node:
    node = parallel.where("matrix")
    return node.items[index] if isinstance(node, Sequence) and index < len(node.items) else node


def _check_values(name: str, values: tuple[str, ...], known: dict[str, None], node: Node, context: Context) -> bool:
    if not values:
        context.add("matrix_empty", node, f"the dimension {quoted(name)} has no values")
        return False
    sound, seen = True, set[str]()
    for value in values:
        if "," in value or "=" in value:
            message = f"the value {quoted(value)} of {quoted(name)} contains `,` or `=`"
            context.add("matrix_value", node, message, "these two separate the parts of an instance's key")
            sound = False
        if value in seen or value in known:
            context.add("matrix_duplicate", node, f"the value {quoted(value)} of {quoted(name)} is there twice")
            sound = False
        seen.add(value)
    return sound


def _check_name(name: str, in_use: dict[str, Collection[str]], node: Node, context: Context) -> bool:
    if not NAME.fullmatch(name):
        hint = "it becomes a variable: letters, digits and `_`, not starting with a digit"
        context.add("matrix_name", node, f"{quoted(name)} cannot be the name of a dimension", hint)
        return False
    if name.startswith(RESERVED_PREFIXES):
        context.add("matrix_name", node, f"{quoted(name)} uses a prefix reserved for built-in variables")
        return False
    kinds = [kind for kind, names in in_use.items() if name in names]
    for kind in kinds:
        context.add("matrix_collision", node, f"the dimension {quoted(name)} is also a {kind}", "rename one of them")
    return not kinds


def _product(dimensions: dict[str, dict[str, None]], node: Node, context: Context) -> tuple[str, ...]:
    names = sorted(dimensions)
    count = math.prod(len(dimensions[name]) for name in names)
    if count > MAX_INSTANCES:
        message = f"the matrix makes {_shown(count)} jobs, at most {MAX_INSTANCES:,} are allowed"
        context.add("matrix_limit", node, message)
        return ()
    longest = sum(len(name) + 2 + max(map(len, dimensions[name])) for name in names)
    if longest > MAX_KEY_LENGTH:
        message = f"names and values of the matrix are longer than {MAX_KEY_LENGTH:,} characters together"
        context.add("matrix_limit", node, message)
        return ()
    context.instances += count
    if context.instances > MAX_FILE_INSTANCES:
        message = f"the matrices of this file make more than {MAX_FILE_INSTANCES:,} jobs"
        context.add("matrix_limit", node, message)
        return ()
    pairs = [[f"{name}={value}" for value in dimensions[name]] for name in names]
    return tuple(",".join(combination) for combination in itertools.product(*pairs))


def _shown(count: int) -> str:
    return f"{count:,}" if count < 10**9 else "more than a thousand million"
