"""How long a server with a crowd of readers and agents takes from SIGTERM to its exit: the zipapp, as users have it."""

from __future__ import annotations

import trio

from tests.bench.stack import PROGRAM, scratch
from tests.e2e.crowd import READERS, STALLED, stop_among_a_crowd
from tests.e2e.product import product_in

Figure = tuple[str, float, str, str]
TIMES = 3


def figures() -> list[Figure]:
    """The slowest of some stops."""
    took = []
    for _ in range(TIMES):
        with scratch() as folder, product_in(folder, PROGRAM) as product:
            took.append(trio.run(stop_among_a_crowd, product, folder / "repository"))
    name = f"SIGTERM to exit, {READERS + STALLED} readers of which {STALLED} do not read, two agents, a flooding job"
    return [(name, round(max(took), 2), "s", "5")]


if __name__ == "__main__":
    for figure in figures():
        print(*figure)
