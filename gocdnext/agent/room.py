"""Room on the disk of the work root before a job begins: what nobody needs goes first, then the job is refused."""

from __future__ import annotations

import contextlib

import structlog
import trio

from gocdnext.agent import disk
from gocdnext.agent.mirrors import remove_oldest
from gocdnext.agent.workspace import Workspace, remove_leftovers

_log = structlog.get_logger("gocdnext.agent")


async def make_room(workspace: Workspace) -> None:
    """DiskFullError when less is free than must be, and removing leftovers and mirrors does not help. Raises OSError."""
    # A root that is gone is made again by whoever makes a directory there.
    with contextlib.suppress(FileNotFoundError):
        await trio.to_thread.run_sync(_make_room, workspace)


def _make_room(workspace: Workspace) -> None:
    root, needed = workspace.root, disk.must_stay(workspace.root, workspace.min_free)

    def enough() -> bool:
        return disk.free(root) >= needed

    if enough():
        return
    jobs = remove_leftovers(root)
    mirrors = remove_oldest(root, enough)
    _log.warning("little room for jobs", removed_leftovers=jobs, removed_mirrors=mirrors, free=disk.free(root))
    disk.require(root, workspace.min_free)
