"""Rows for people: a table on a terminal, tab-separated lines in a pipe. Cells are made safe for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click

from gocdnext.cli.terminal import safe


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """One line for each row; the names of the columns only on a terminal."""
    clean = [[safe(cell, colours=False) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in clean:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in clean:
        table.add_row(*map(Text, row))
    Console().print(table)
