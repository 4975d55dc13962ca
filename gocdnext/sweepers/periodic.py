"""The loop of every sweeper: wait, do one pass, say what it did; an absent database or disk is waited for."""

from __future__ import annotations

import trio

from gocdnext.sweeps import Board, Sweep


async def every(
    seconds: float, name: str, sweep: Sweep, *, first: float | None = None, board: Board | None = None
) -> None:
    """Calls `sweep` every `seconds` until cancelled, the first time after `first` if that is said. What it did is kept on
    the board, from where it can be called at any time."""
    board = board or Board()
    board.add(name, sweep)
    await trio.sleep(seconds if first is None else first)
    while True:
        await board.once(name)
        await trio.sleep(seconds)
