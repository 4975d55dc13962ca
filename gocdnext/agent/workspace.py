"""The directories of jobs: where they are, made fresh, and gone afterwards (protocol-agent 3.3). It runs nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import trio

REMOVAL = 60.0
"""Seconds that the removal of a job's directory may hold up the end of the job; the thread goes on in any case."""
_MAKE_ATTEMPTS = 50

MIRRORS = ".mirrors"
"""Where mirrors.py keeps its own below the work root: a name that no run can have."""

_UNSAFE = str.maketrans("/\\.\0", "____")


@dataclass(frozen=True)
class Workspace:
    """The work root and its bounds, in bytes: what must be free before a job begins, what mirrors may take in all."""

    root: str
    min_free: int = 0
    mirror_limit: int = 0


class WorkspaceError(Exception):
    """The work root or a job's directory cannot be used; the text says which and why."""


def safe_name(identifier: str) -> str:
    """An id from the wire as one harmless path component."""
    return identifier.translate(_UNSAFE)


def open_root(root: str) -> None:
    """Makes the work root, for this user alone. WorkspaceError when it is someone else's: a directory with a known
    name under a shared /tmp could have been put there to read or change what jobs do."""
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        found = os.lstat(root)
    except OSError as error:
        raise WorkspaceError(
            f"the work root {root} cannot be made: {error.strerror}; set GOCDNEXT_WORKSPACE_ROOT"
        ) from error
    owner = os.stat(root).st_uid
    if owner != os.geteuid() or (stat.S_ISLNK(found.st_mode) and found.st_uid != os.geteuid()):
        raise WorkspaceError(
            f"the work root {root} belongs to another user (uid {owner}); "
            "remove it or set GOCDNEXT_WORKSPACE_ROOT to a directory of your own"
        )
    if not os.access(root, os.W_OK | os.X_OK):
        raise WorkspaceError(f"the work root {root} is not writable; set GOCDNEXT_WORKSPACE_ROOT to one that is")


def remove_leftovers(root: str) -> int:
    """Removes directories of jobs whose agent is gone, and returns how many. Those of living agents are locked."""
    removed = 0
    for run in os.scandir(root):
        if run.is_dir(follow_symlinks=False) and "." not in run.name:
            for job in list(os.scandir(run.path)):
                if (
                    "." not in job.name
                    and job.is_dir(follow_symlinks=False)
                    and (lock := try_lock(job.path)) is not None
                ):
                    _remove(job.path, lock)
                    removed += 1
    return removed


@contextlib.asynccontextmanager
async def job_directory(root: str, run_id: str, job_id: str) -> AsyncIterator[str]:
    """A fresh directory `<root>/<run>/<job>-<random>`, and what the job needs kept beside it as `<directory>.<name>`.

    One per attempt: an agent that is being stopped may still be clearing up while the next one repeats its job. All of
    it is removed at the end, whatever happened. WorkspaceError when it cannot be made.
    """
    path = os.path.join(root, safe_name(run_id), f"{safe_name(job_id)}-{secrets.token_hex(4)}")
    try:
        lock = await trio.to_thread.run_sync(_make, path)
    except OSError as error:
        raise WorkspaceError(f"{path}: {error.strerror or error}") from error
    try:
        yield path
    finally:
        # Shielded, since it must happen after a cancel too; bounded, and in a thread of its own.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REMOVAL):
            await trio.to_thread.run_sync(_remove, path, lock, abandon_on_cancel=True)


def _make(path: str) -> int:
    """Makes the directory and returns the descriptor that keeps it locked."""
    for attempts_left in reversed(range(_MAKE_ATTEMPTS)):
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            lock = try_lock(path)
            break
        except (FileExistsError, FileNotFoundError):
            # The directory of the run went just now, because the last other job of it ended. (It "exists" when it was
            # there for mkdir and was not for the look that makedirs takes then.)
            if not attempts_left:
                raise
    assert lock is not None, "the name is new"
    os.mkdir(path, mode=0o755)  # with the lock in it the run's directory stays
    return lock


def try_lock(path: str) -> int | None:
    """Takes the lock beside a directory, `<path>.lock`; None while another process has it. Children do not inherit it."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _remove(path: str, lock: int) -> None:
    """What is beside the directory first: as long as that is there, an agent that starts finds what is left."""
    run_dir, beside = os.path.dirname(path), os.path.basename(path) + "."  # a dot in an id becomes `_`
    with contextlib.suppress(OSError):  # what cannot be removed now is tried again when an agent starts
        kept = f"{beside}lock"
        for name in os.listdir(run_dir):
            if name.startswith(beside) and name != kept:
                remove_tree(os.path.join(run_dir, name))
        remove_tree(path)
        os.unlink(os.path.join(run_dir, kept))
    with contextlib.suppress(OSError):  # another job of the run is still there
        os.rmdir(run_dir)
    os.close(lock)


def remove_tree(path: str) -> None:
    """Removes a file or directory tree without following links; read-only directories in it (a module cache) too."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(path)
        return
    shutil.rmtree(path, onerror=_make_writable)


def _make_writable(function: Callable[..., Any], path: str, _info: object) -> None:
    """rmtree met a directory that does not let go of its entries: open it and try once more."""
    os.chmod(os.path.dirname(path), 0o700)
    if function in {os.unlink, os.rmdir}:
        function(path)
    elif os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, 0o700)
        shutil.rmtree(path)
