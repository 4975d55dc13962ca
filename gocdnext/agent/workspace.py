"""The directories of jobs: where they are, made fresh, and gone afterwards (protocol-agent 3.3). It runs nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio

REMOVAL = 60.0
"""Seconds that the removal of a job's directory may hold up the end of the job; the thread goes on in any case."""

_UNSAFE = str.maketrans("/\\.\0", "____")


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


@contextlib.asynccontextmanager
async def job_directory(root: str, run_id: str, job_id: str) -> AsyncIterator[str]:
    """A fresh directory `<root>/<run>/<job>`, and whatever the job needs kept beside it as `<run>/<job>.<name>`.

    All of it is removed at the end, whatever happened. WorkspaceError when it cannot be made.
    """
    run_dir = os.path.join(root, safe_name(run_id))
    path = os.path.join(run_dir, safe_name(job_id))
    try:
        await trio.to_thread.run_sync(_make, path)
    except OSError as error:
        raise WorkspaceError(f"{path}: {error.strerror or error}") from error
    try:
        yield path
    finally:
        # Shielded, since it must happen after a cancel too; bounded, and in a thread of its own.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REMOVAL):
            await trio.to_thread.run_sync(_remove, path, run_dir, abandon_on_cancel=True)


def _make(path: str) -> None:
    remove_tree(path)
    os.makedirs(path, mode=0o755)


def _remove(path: str, run_dir: str) -> None:
    beside = os.path.basename(path) + "."  # no other job's name begins so: a dot in an id becomes `_`
    for name in os.listdir(run_dir):
        if name.startswith(beside):
            os.unlink(os.path.join(run_dir, name))
    with contextlib.suppress(OSError):  # what cannot be removed is tried again when the job comes back
        remove_tree(path)
    with contextlib.suppress(OSError):  # another job of the run is still there
        os.rmdir(run_dir)


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
