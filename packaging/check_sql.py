"""Holds the rule that SQL lives in `sql/`: finds statements written, or put together, in Python.

Run by `build.py lint`. Looks at string literals only (comments and docstrings may talk about SQL), so a rename or a
new module needs no change here. Exit code 1 and one line per finding.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATEMENT = re.compile(
    r"^\s*(SELECT\s.+\sFROM\s|SELECT\s+\w+\(|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s*\("
    r"|(CREATE|ALTER|DROP)\s+(TABLE|INDEX|TYPE|FUNCTION|SCHEMA|VIEW|SEQUENCE|DATABASE|ROLE)\s|TRUNCATE\s+\w+|COPY\s+\w+\s*\()",
    re.IGNORECASE | re.DOTALL,
)
"""The head of a statement. Session words without data (`LISTEN`, `BEGIN`) belong to the connection code."""


def docstrings(tree: ast.AST) -> set[int]:
    """Ids of the constant nodes that stand alone as a statement: documentation, not data."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def findings(path: Path) -> Iterator[str]:
    """One line for each string literal of a file that starts like a statement."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    documentation = docstrings(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)) or id(node) in documentation:
            continue
        if STATEMENT.match(node.value):
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            yield f"{place}: SQL in Python, put it into sql/queries: {node.value[:60]!r}"


def main() -> None:
    problems = [line for path in sorted((ROOT / "gocdnext").rglob("*.py")) for line in findings(path)]
    for line in problems:
        print(line)
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
