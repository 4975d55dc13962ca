"""Cancels runs whose gates nobody decided in time (spec-execution 8)."""

from __future__ import annotations

from gocdnext.runs.service import RunService
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 60.0
"""Seconds between two passes."""


async def run(runs: RunService, default_seconds: int | None, board: Board | None = None) -> None:
    """Expires gates until cancelled. `default_seconds` is for gates without a window of their own; None = never."""
    await every(EVERY, "gates", lambda: runs.expire_gates(default_seconds), board=board)
