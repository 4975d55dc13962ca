"""The reaper: takes running jobs back from agents that are gone, and ends those that are out of time.

Spec-execution 14 and design 9, decision 11. Two servers may reap at once: a job is changed by the attempt it was seen in.
"""

from __future__ import annotations

from gocdnext.runs.service import RunService
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 30.0
"""Seconds between two passes."""


async def run(runs: RunService, board: Board | None = None) -> None:
    """Reaps until cancelled."""

    async def sweep() -> int:
        return await runs.reap() + await runs.end_overdue()

    await every(EVERY, "reaper", sweep, board=board)
