"""Asks repositories whose materials are polled, and starts runs for what is new there (contract-admin 10)."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

from gocdnext.db.pool import Database
from gocdnext.materials import polling
from gocdnext.materials.remotes import AskHeads, ask_heads
from gocdnext.runs.service import RunService
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 10.0
"""Seconds between two looks at what is due."""


async def run(
    db: Database,
    runs: RunService,
    clock: Callable[[], datetime],
    ask: AskHeads = ask_heads,
    board: Board | None = None,
) -> None:
    """Polls until cancelled, at once for the first time."""
    draw = random.Random().random

    async def poll() -> int:
        return await polling.poll(db, runs, clock=clock, draw=draw, ask=ask)

    await every(EVERY, "polls", poll, first=0.0, board=board)
