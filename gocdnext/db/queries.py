"""Named SQL statements: `load("runs").claim_job` is the text of `-- name: claim_job` in `sql/queries/runs.sql`.

Statements are written by hand in files and only ever carry parameters; nothing here builds SQL.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import gocdnext

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)


class Queries:
    """The statements of one area as attributes. An unknown name raises AttributeError at import of its user."""

    def __init__(self, area: str, statements: dict[str, str]) -> None:
        self._area = area
        self._statements = statements

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"sql/queries/{self._area}.sql has no statement named {name}") from None

    def names(self) -> list[str]:
        """Names of all statements, in file order."""
        return list(self._statements)


def sql_dir() -> Path:
    """The folder `sql`: inside the installed package, or beside it in a checkout."""
    package = Path(gocdnext.__file__).parent
    inside = package / "sql"
    return inside if inside.is_dir() else package.parent / "sql"


@functools.cache
def load(area: str) -> Queries:
    """The statements of `sql/queries/<area>.sql`. Raises ValueError for a name that stands twice."""
    parts = _NAME.split((sql_dir() / "queries" / f"{area}.sql").read_text(encoding="utf-8"))
    statements: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in statements:
            raise ValueError(f"sql/queries/{area}.sql names {name} twice")
        statements[name] = body.strip().removesuffix(";")
    return Queries(area, statements)
