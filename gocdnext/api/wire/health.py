"""Health and version (contract-runs 10). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Wire


class Health(Wire):
    status: str
    disk: str = ""
    """What is left out for want of room on a disk (no_uploads, no_jobs or no_lines); absent while there is enough."""


class Version(Wire):
    version: str
    commit: str
    build_date: str
