"""`docs`: the documentation, read from the executable itself. It is for machines that reach nothing else."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

import click

from gocdnext.cli import manual
from gocdnext.cli.common import Failure
from gocdnext.cli.table import print_rows

MADE: dict[str, Callable[[], str]] = {"cli": manual.cli, "configuration": manual.configuration}
"""Pages that are not kept: the program writes them from what it is."""


def folder() -> Path:
    """The pages: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "docs"
    return inside if inside.is_dir() else package.parent / "docs"


def names() -> list[str]:
    return sorted({path.stem for path in folder().glob("*.md")} | set(MADE))


def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in names() if name.startswith(incomplete)]


@click.command()
@click.argument("page", required=False, shell_complete=complete)
def docs(page: str | None) -> None:
    """Read a PAGE of the documentation, or list the pages. On a terminal it is shown by $PAGER."""
    if page is None:
        print_rows(("page", "title"), [(name, title(name)) for name in names()])
        return
    name = page.removesuffix(".md")
    if name not in names():
        close = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {close[0]}?" if close else "gocdnext docs lists them."
        raise Failure(f"there is no page {page!r}; {hint}")
    if sys.stdout.isatty():
        click.echo_via_pager(text(name))
    else:
        click.echo(text(name), nl=False)


def text(name: str) -> str:
    """A page of `names()` as Markdown."""
    made = MADE.get(name)
    return made() if made else (folder() / f"{name}.md").read_text(encoding="utf-8")


def title(name: str) -> str:
    """The first heading of a page."""
    if name in MADE:
        return f"Every {'command' if name == 'cli' else 'setting'}"
    return next((line.removeprefix("# ") for line in text(name).splitlines() if line.startswith("# ")), "")
