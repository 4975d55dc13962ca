"""Lists for people and for pipes: a table on a terminal, one line of tab-separated values per row elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import click

from gocdnext.cli.terminal import COLOURS, safe

if TYPE_CHECKING:
    from rich.text import Text

SHOWN_ID = 8
"""Characters of an id in a table; a command takes the beginning of an id too."""
NUMBERS = frozenset({"bytes", "runs", "pipelines", "version", "attempt"})


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], *, folded: Collection[str] = ()) -> None:
    """Prints rows with a value for each column. `id` is cut on a terminal, `status` has its colour there; the values of
    `folded` columns are whole there and may take several lines. What is in them can do nothing to the terminal."""
    if not sys.stdout.isatty():
        for row in rows:
            print_line(*row)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        justify = "right" if column in NUMBERS else "left"
        table.add_column(column, no_wrap=column not in folded, overflow="fold", justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(
            *(_cell(column, value, whole=column in folded) for column, value in zip(columns, row, strict=False))
        )
    Console().print(table)


def print_line(*values: str) -> None:
    """One line of tab-separated values."""
    click.echo("\t".join(safe(value, colours=False) for value in values))


def _cell(column: str, value: str, *, whole: bool) -> Text:
    from rich.text import Text

    clean = safe(value, colours=False)
    shown = clean[:SHOWN_ID] if column == "id" and not whole else clean
    return Text(shown, style=COLOURS.get(clean, "") if column == "status" else "")


def print_facts(facts: Iterable[tuple[str, str | None]]) -> None:
    """Prints names and values below each other; a value that is not there is left out with its name."""
    told = [(name, safe(value, colours=False)) for name, value in facts if value]
    width = max((len(name) for name, _ in told), default=0)
    for name, value in told:
        click.echo(f"{name:{width}}  {value}")
