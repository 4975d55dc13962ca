"""Runs the measurements in `tests/bench/` and prints one table beside the goals. Run by `build.py bench [NAME ...]`.

A measurement is a module with `figures()`, which gives `Figure` values (or tuples in their order). The exit code is 1
when a goal was missed. This module measures nothing itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "tests" / "bench"


class Figure(NamedTuple):
    """One measured value. `ok` is decided by the measurement: some goals are floors, some are ceilings."""

    name: str
    value: float
    unit: str
    goal: str
    ok: bool


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"gocdnext_bench_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def measure(path: Path, console: Console) -> list[Figure]:
    """The figures of one module; none when it has no `figures`."""
    module = load(path)
    if not hasattr(module, "figures"):
        return []
    started = time.monotonic()
    with console.status(f"measuring {path.stem}"):
        found: Iterable[tuple[str, float, str, str, bool]] = module.figures()
        figures = [Figure(*figure) for figure in found]
    console.print(f"measured {path.stem} in {time.monotonic() - started:.0f} s")
    return figures


def table(figures: list[Figure]) -> Table:
    made = Table(title="figures")
    for heading, side in (("figure", "left"), ("value", "right"), ("unit", "left"), ("goal", "right"), ("", "left")):
        made.add_column(heading, justify="right" if side == "right" else "left")
    for figure in figures:
        value = f"{figure.value:,.0f}" if abs(figure.value) >= 1000 else f"{figure.value:.3g}"
        made.add_row(figure.name, value, figure.unit, figure.goal, "ok" if figure.ok else "[red]missed[/red]")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="build.py bench", description="Measure the figures of the project.")
    parser.add_argument("names", nargs="*", help="modules of tests/bench to run; default: all")
    names = parser.parse_args().names
    paths = [path for path in sorted(BENCH.glob("*.py")) if not names or path.stem in names]
    unknown = set(names) - {path.stem for path in paths}
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    console = Console(stderr=True)
    figures = [figure for path in paths for figure in measure(path, console)]
    Console(width=None if sys.stdout.isatty() else 120).print(table(figures))
    raise SystemExit(0 if all(figure.ok for figure in figures) else 1)


if __name__ == "__main__":
    main()
