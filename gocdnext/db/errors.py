"""What can go wrong before the database serves, as errors whose text tells the user what to do next.

Nothing here catches anything; the texts carry paths, process ids and versions, never a secret.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import asyncpg

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # What asyncpg says when the server's farewell arrives before the first statement is sent.
    asyncpg.InternalClientError,
)
"""Everything that asyncpg raises about a connection or a statement; none of them is the others' parent."""


class DatabaseStartError(Exception):
    """The database cannot be started or used; the message is meant for the user."""


class StateDirectoryError(DatabaseStartError):
    """The state directory is not writable, full, or not safe to use."""


class InstanceRunningError(DatabaseStartError):
    """Another process has the state directory locked."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


class MigrationError(DatabaseStartError):
    """The schema cannot be brought to this program's version."""


class SchemaNewerError(MigrationError):
    """The schema was made by a later program. Nothing was written."""


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
NOT_WRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def full_message(path: Path) -> str:
    """The sentence for a file system that has no room left for `path`."""
    return (
        f"there is no space left for {path}{_free(path)}. Free some space on that file system, "
        "or choose another directory with --state, and start again. Nothing that was acknowledged is lost."
    )


def state_error(path: Path, error: OSError) -> StateDirectoryError:
    """Turns what the operating system said about `path` into a sentence with a way out."""
    if error.errno in NO_SPACE:
        return StateDirectoryError(full_message(path))
    if error.errno == errno.EROFS:
        return StateDirectoryError(
            f"{path} is on a read-only file system. Mount it writable, or choose another directory with --state."
        )
    if error.errno in NOT_WRITABLE:
        return StateDirectoryError(
            f"user {os.geteuid()} may not write to {path}: {error.strerror}. "
            f"Give it to this user (chown), or choose another directory with --state."
        )
    return StateDirectoryError(f"cannot use {path}: {error.strerror or error}. Choose another directory with --state.")


def _free(path: Path) -> str:
    """` (N bytes free)` for the file system of the nearest existing parent, or nothing."""
    for place in (path, *path.parents):
        try:
            status = os.statvfs(place)
        except OSError:
            continue
        return f" ({status.f_bavail * status.f_frsize // 1024} KiB free)"
    return ""
