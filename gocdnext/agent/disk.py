"""Room on the disk of the work root: how much there is, how much must stay, and what is said when it does not.

Before a job begins `room.make_room` asks for what a job needs; while the agent writes, a `DiskGuard` stops it in time.
"""

from __future__ import annotations

import errno
import os

from gocdnext.agent.failures import DeliveryError

RESERVE, PART = 256 * 1024 * 1024, 20
"""What the agent leaves free, in bytes, or the n-th part of a small disk: its server's database may be there too."""
STEP = 16 * 1024 * 1024
"""Bytes written between two looks at the disk."""


class DiskFullError(DeliveryError):
    """There is no room; the text says where, how much is left, and what to do."""


def free(directory: str) -> int:
    """Bytes that this user can still write. Raises OSError."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def must_stay(directory: str, wanted: int = 0) -> int:
    """Bytes that have to be free there: the reserve, or more where more is `wanted`. Raises OSError."""
    disk = os.statvfs(directory)
    return max(wanted, min(RESERVE, disk.f_blocks * disk.f_frsize // PART))


def require(directory: str, wanted: int = 0) -> None:
    """DiskFullError when less is free than must stay. Raises OSError."""
    there, needed = free(directory), must_stay(directory, wanted)
    if there < needed:
        variable = " (GOCDNEXT_WORKSPACE_MIN_FREE)" if needed == wanted else ""
        raise DiskFullError(
            _full(directory, f"only {there >> 20} MiB are free, {needed >> 20} MiB must stay{variable}")
        )


class DiskGuard:
    """Watches the disk that a directory is on, for one writer."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._written = 0

    def check(self) -> None:
        """DiskFullError when less is free for this user than must stay."""
        require(self._directory)

    def wrote(self, size: int) -> None:
        """Counts bytes that were written, and looks at the disk now and then."""
        self._written += size
        if self._written >= STEP:
            self._written = 0
            self.check()


def explain(error: OSError, directory: str) -> str:
    """The error in words; a full disk with what to do about it."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _full(directory, error.strerror or "no space left")
    return error.strerror or str(error)


def _full(directory: str, why: str) -> str:
    return (
        f"the disk of the agent's work root is full ({directory}: {why}); "
        "make room there or set GOCDNEXT_WORKSPACE_ROOT to a directory on a larger disk"
    )
