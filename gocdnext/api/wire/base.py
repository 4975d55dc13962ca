"""What every message is made of, and the one that errors are (contract-runs 0). No logic here."""

from __future__ import annotations

from typing import Annotated

import msgspec

from gocdnext.pipeline.problems import Problem

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339 in UTC, zeros at the end of the fraction dropped (contract-runs 0.3)."""
Id = Annotated[str, msgspec.Meta(extra_json_schema={"format": "uuid"})]


class Wire(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Base of every message."""


class Error(Wire):
    """The body of every answer with a status of 400 or more (0.2)."""

    error: str
    code: str = ""
    errors: list[Problem] = []
    """Every problem of the pipeline files, where that is what is wrong; `error` is the first."""
