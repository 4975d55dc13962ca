"""Room on the disk of the work root before a job begins: what nobody needs goes first, then the job is refused."""

from __future__ import annotations

import os

import structlog
import trio

from gocdnext.agent.mirrors import remove_oldest
from gocdnext.agent.workspace import Workspace, WorkspaceError, remove_leftovers

_log = structlog.get_logger("gocdnext.agent")


async def make_room(workspace: Workspace) -> None:
    """WorkspaceError when less than `min_free` bytes are free, and removing leftovers and mirrors does not help."""
    if not await trio.to_thread.run_sync(_make_room, workspace):
        raise WorkspaceError(
            f"only {_free(workspace.root) >> 20} MiB are free for {workspace.root}, and {workspace.min_free >> 20} MiB "
            "must be; make room there, or set GOCDNEXT_WORKSPACE_ROOT to a directory on a larger disk "
            "(GOCDNEXT_WORKSPACE_MIN_FREE is what must be free)"
        )


def _make_room(workspace: Workspace) -> bool:
    def enough() -> bool:
        return _free(workspace.root) >= workspace.min_free

    if enough():
        return True
    jobs = remove_leftovers(workspace.root)
    mirrors = remove_oldest(workspace.root, enough)
    _log.warning("little room for jobs", removed_leftovers=jobs, removed_mirrors=mirrors, free=_free(workspace.root))
    return enough()


def _free(root: str) -> int:
    """Bytes that this user can still write. A root that is gone is found out by whoever makes a directory there."""
    try:
        disk = os.statvfs(root)
    except OSError:
        return 2**63
    return disk.f_bavail * disk.f_frsize
