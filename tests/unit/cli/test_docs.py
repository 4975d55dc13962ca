"""`docs`: every page of the documentation out of the program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., Any]
DOCS = Path(__file__).parents[3] / "docs"


def test_every_page_is_listed(call: Call) -> None:
    listed = [line.split("\t") for line in call("docs").out.splitlines()]
    assert [name for name, _ in listed] == sorted(path.stem for path in DOCS.glob("*.md"))
    assert all(title for _, title in listed)


def test_a_page_is_its_file(call: Call) -> None:
    for name in ("operations", "operations.md"):
        assert call("docs", name).out == (DOCS / "operations.md").read_text()


def test_what_the_program_writes_itself(call: Call) -> None:
    assert "`GOCDNEXT_STATE_DIR`" in call("docs", "configuration").out


def test_no_such_page(call: Call) -> None:
    found = call("docs", "operation")
    assert (found.code, "did you mean operations?" in found.err) == (1, True)
    assert call("docs", "../README").code == 1
