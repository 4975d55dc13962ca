"""Runs the measurements in `tests/bench/` and prints one table beside the goals. Run by `build.py bench [NAME ...]`.

A measurement is a module with `figures()`, which gives tuples (name, value, unit, goal). A goal is a number, or empty
for a figure that only explains another. Exit code 1 when a goal was missed. This module measures nothing itself.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "tests" / "bench"
PLAIN_WIDTH = 120
"""Columns of the table where there is no terminal to ask."""


class Figure(NamedTuple):
    """One measured value and its goal: at least that much for a rate (`.../s`), at most that much for anything else."""

    name: str
    value: float
    unit: str
    goal: float | None

    @property
    def ok(self) -> bool:
        if self.goal is None:
            return True
        return self.value >= self.goal if self.unit.endswith("/s") else self.value <= self.goal


def measure(name: str, console: Console) -> list[Figure]:
    """The figures of one module; none when it has no `figures`."""
    module = importlib.import_module(f"tests.bench.{name}")
    if not hasattr(module, "figures"):
        return []
    started = time.monotonic()
    with console.status(f"measuring {name}"):
        found: Iterable[tuple[str, float, str, str | float]] = module.figures()
        figures = [Figure(what, float(value), unit, goal_of(goal)) for what, value, unit, goal in found]
    console.print(f"measured {name} in {time.monotonic() - started:.0f} s")
    return figures


def goal_of(goal: str | float) -> float | None:
    return float(str(goal).replace(",", "")) if goal != "" else None


def table(figures: list[Figure]) -> Table:
    made = Table(title="figures")
    for heading, numeric in (("figure", False), ("value", True), ("unit", False), ("goal", True), ("", False)):
        made.add_column(heading, justify="right" if numeric else "left")
    for figure in figures:
        goal = "" if figure.goal is None else number(figure.goal)
        verdict = "" if figure.goal is None else "ok" if figure.ok else "[red]missed[/red]"
        made.add_row(figure.name, number(figure.value), figure.unit, goal, verdict)
    return made


def number(value: float) -> str:
    """Three digits, or all of them before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="build.py bench", description="Measure the figures of the project.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="modules of tests/bench to run; default: all")
    known = sorted(path.stem for path in BENCH.glob("*.py"))
    names = parser.parse_args().names or known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no such measurement: {', '.join(unknown)}. There are: {', '.join(known)}")
    sys.path.insert(0, str(ROOT))
    console = Console(stderr=True)
    figures = [figure for name in names for figure in measure(name, console)]
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table(figures))
    raise SystemExit(0 if all(figure.ok for figure in figures) else 1)


if __name__ == "__main__":
    main()
