"""The graph of `needs` (spec-pipelines 3.3): who waits for whom must exist, come no later, and not go in a circle."""

from __future__ import annotations

from collections.abc import Iterator

from gocdnext.pipeline.context import Context
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import Block


def check(jobs: dict[str, Block], context: Context) -> None:
    """Check the visible jobs, inheritance resolved."""
    stages = context.stages or {}
    positions = {name: stages.get(job.text("stage")) for name, job in jobs.items()}
    graph: dict[str, list[str]] = {}
    for name in sorted(jobs):
        if context.problems.full:
            return
        needed = jobs[name].texts("needs")
        graph[name] = [
            other for index, other in enumerate(needed) if _sound(name, index, other, jobs, positions, context)
        ]
    for cycle in _cycles(graph):
        names = [*cycle, cycle[0]]
        shown = " → ".join(quoted(name) for name in names[:8]) + (" → …" if len(names) > 8 else "")
        context.add("needs_cycle", jobs[cycle[0]].where("needs"), f"jobs wait for each other in a circle: {shown}")


def _sound(
    name: str,
    index: int,
    needed: str,
    jobs: dict[str, Block],
    positions: dict[str, int | None],
    context: Context,
) -> bool:
    if context.problems.full:
        return False
    if needed == name:
        context.add("needs_self", jobs[name].item("needs", index), "the job needs itself")
        return False
    if needed not in jobs:
        message = f"there is no job {quoted(needed)}"
        if needed.startswith("."):
            message, hint = f"{quoted(needed)} is a template and never runs", "need a job that extends it"
        else:
            hint = context.problems.suggest(needed, jobs)
        context.add("needs_unknown", jobs[name].item("needs", index), message, hint)
        return False
    mine, other = positions[name], positions[needed]
    if mine is not None and other is not None and other > mine:
        message = f"{quoted(needed)} runs in a later stage than {quoted(name)}"
        context.add("needs_forward", jobs[name].item("needs", index), message, "move one of the two to another stage")
        return False
    return True


def _cycles(graph: dict[str, list[str]]) -> Iterator[list[str]]:
    """Circles found by one walk over the graph in name order, each starting at its first name."""
    done: set[str] = set()
    for start in graph:
        if start in done:
            continue
        path, place = [start], {start: 0}
        waiting = [iter(sorted(set(graph[start])))]
        while waiting:
            following = next(waiting[-1], None)
            if following is None:
                waiting.pop()
                left = path.pop()
                del place[left]
                done.add(left)
            elif following in place:
                cycle = path[place[following] :]
                first = cycle.index(min(cycle))
                yield cycle[first:] + cycle[:first]
            elif following not in done:
                place[following] = len(path)
                path.append(following)
                waiting.append(iter(sorted(set(graph[following]))))
