"""`strategy.matrix` of GitHub: dimensions, `include` and `exclude`, and whether a matrix of ours says the same."""

from __future__ import annotations

import re

from gocdnext.importers import matrices
from gocdnext.importers.github_context import mentions
from gocdnext.importers.reading import Part, text_of
from gocdnext.pipeline.nodes import Mapping, Node, Scalar, Sequence

MAX_SEEN = 20_000


class Matrix:
    """Either `dimensions` for a matrix of ours (by key, with `names` of the variables), or `combinations`."""

    def __init__(self, job: Part, called: str, taken: set[str]) -> None:
        self.dimensions: dict[str, list[str]] = {}
        self.names: dict[str, str] = {}
        self.combinations: list[dict[str, str]] = [{}]
        self.split = False
        strategy = job.part("strategy")
        if strategy is None:
            return
        strategy.skip("fail-fast")
        strategy.take("matrix")
        strategy_line = strategy.line("matrix")
        if isinstance(strategy.peek("matrix"), Scalar):
            advice = "it is only known when the workflow runs; write the values out"
            job.notes.add(strategy_line, f"the matrix of {called}", advice)
        part = strategy.part("matrix") if isinstance(strategy.peek("matrix"), Mapping) else None
        strategy.rest(f"`strategy` of {called}", {"max-parallel": "the capacity of the agents is the limit"})
        if part is None:
            return
        lists = {key: [_flat(item) for item in part.items(key)] for key in part if key not in ("include", "exclude")}
        lists = {key: values for key, values in lists.items() if values}
        simple = all(set(value) == {""} for values in lists.values() for value in values)
        plain = {key: [value.get("", "") for value in values] for key, values in lists.items()}
        self.names = {key: "MATRIX_" + re.sub(r"\W", "_", key).upper() for key in lists}
        named = {self.names[key]: values for key, values in plain.items()}
        extra = "include" in part or "exclude" in part
        if any("${{" in value for values in plain.values() for value in values):
            job.notes.add(strategy_line, f"the matrix of {called}", "it uses expressions; write the values out")
            return
        ours = simple and not extra and len(named) == len(plain) and matrices.expressible(named, taken)
        if ours and not _fixed_beforehand(job):
            self.dimensions = plain
            return
        self.split = True
        self.combinations = _combinations(part, lists, strategy_line)
        if self.combinations:
            advice = "one job for each combination; `parallel: {matrix: …}` cannot say this"
            job.notes.add(strategy_line, f"the matrix of {called}", advice)
        else:
            job.notes.add(strategy_line, f"the matrix of {called}", "it has no combination")
            self.combinations = [{}]


def _flat(node: Node) -> dict[str, str]:
    """A value by its keys below (`os.name`), under an empty key when it is a text."""
    if isinstance(node, Scalar):
        return {"": text_of(node)}
    found: dict[str, str] = {}
    waiting: list[tuple[str, Node]] = [("", node)]
    while waiting and len(found) < 100:
        path, item = waiting.pop()
        if isinstance(item, Scalar):
            found[path] = text_of(item)
        elif isinstance(item, Mapping):
            waiting += [
                (f"{path}.{text_of(key)}" if path else text_of(key), value) for key, value in reversed(item.pairs)
            ]
        elif isinstance(item, Sequence):
            waiting += [(f"{path}.{index}" if path else str(index), value) for index, value in enumerate(item.items)]
    return found


def _combinations(part: Part, lists: dict[str, list[dict[str, str]]], line: int) -> list[dict[str, str]]:
    """As GitHub does it: product, less `exclude`, then `include` adds to combinations or makes new ones."""
    indexes = {key: [str(index) for index in range(len(values))] for key, values in lists.items()}
    found = []
    for chosen in matrices.product(indexes, line) if lists else []:
        combination: dict[str, str] = {}
        for key, index in chosen.items():
            for below, value in lists[key][int(index)].items():
                combination[f"{key}.{below}" if below else key] = value
        found.append(combination)
    for excluded in _entries(part, "exclude"):
        found = [each for each in found if not all(each.get(key) == value for key, value in excluded.items())]
    originals = [dict(each) for each in found]
    own = {key for each in originals for key in each}
    for included in _entries(part, "include"):
        given = [(key, value) for key, value in included.items() if key in own]
        fitting = [at for at, original in enumerate(originals) if all(original.get(k) == v for k, v in given)]
        for at in fitting:
            found[at].update(included)
        if not fitting:
            found.append({key: included[key] for key in dict.fromkeys([*lists, *included]) if key in included})
    return found[: matrices.MAX_COMBINATIONS]


def _entries(part: Part, key: str) -> list[dict[str, str]]:
    return [_flat(node) for node in part.items(key) if isinstance(node, Mapping)]


def _fixed_beforehand(job: Part) -> bool:
    """Whether something that has to be known before the job runs refers to the matrix: all but scripts and names."""
    waiting: list[tuple[str, Node]] = [
        (key, node) for key in job if key not in ("strategy", "name") and (node := job.peek(key)) is not None
    ]
    seen = 0
    while waiting:
        path, node = waiting.pop()
        seen += 1
        if seen > MAX_SEEN:
            return True
        if isinstance(node, Mapping):
            waiting += [(f"{path}.{text_of(key)}", value) for key, value in node.pairs]
        elif isinstance(node, Sequence):
            waiting += [(path, value) for value in node.items]
        elif path not in ("steps.run", "steps.name") and _uses_matrix(path, node.value):
            return True
    return False


def _uses_matrix(path: str, text: str) -> bool:
    return mentions(text, "matrix") or (path.endswith(".if") and re.search(r"\bmatrix\.", text) is not None)
