"""Environments of projects (spec-execution 10). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Wire


class FreezeBody(Wire):
    """Why an environment is frozen. `user` counts only while authentication is off."""

    reason: str = ""
    user: str | None = None
