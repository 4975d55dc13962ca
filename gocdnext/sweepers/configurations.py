"""Reads configurations again whose repository did not answer: the push that changed them does not come a second time."""

from __future__ import annotations

from gocdnext.projects.sync import Configs
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 30.0
"""Seconds."""
AT_MOST = 20
"""Projects of one pass."""


async def run(configs: Configs, board: Board | None = None) -> None:
    """Runs until cancelled."""
    await every(EVERY, "configurations", lambda: configs.read_again(AT_MOST), board=board)
