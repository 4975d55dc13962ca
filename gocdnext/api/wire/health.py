"""Health and version (contract-runs 10). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Wire


class Health(Wire):
    status: str


class Version(Wire):
    version: str
    commit: str
    build_date: str
