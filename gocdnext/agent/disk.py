"""Room on the disk of the work root: what the agent itself writes there stops before the disk is full."""

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


class DiskGuard:
    """Watches the disk that a directory is on, for one writer."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._written = 0

    def check(self) -> None:
        """DiskFullError when less is free for this user than must stay."""
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        reserve = min(RESERVE, disk.f_blocks * disk.f_frsize // PART)
        if free < reserve:
            raise DiskFullError(
                _full(self._directory, f"only {free >> 20} MiB are free, {reserve >> 20} MiB must stay")
            )

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
