"""The keys of secrets that lie in the state directory, and how one takes the place of another while a server runs.

    secrets.key             what is sealed from now on is sealed with it
    secrets-<id>.key        older ones, which only open
    secrets-next.key        one that a rotation made and has not put in place yet

Each step is one rename: a rotation that ends anywhere leaves keys that open everything, and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from gocdnext.db.errors import StateDirectoryError, state_error
from gocdnext.db.statedir import KEY_BYTES, read_key_file, sync_directory
from gocdnext.errors import ConflictError
from gocdnext.secrets.sealing import key_id

NAME = "secrets"
_NEXT = f"{NAME}-next"


def read(directory: Path) -> tuple[bytes, ...]:
    """The keys, the one that seals first; empty when there is none. Raises StateDirectoryError."""
    current = read_key_file(directory, NAME)
    if current is None:
        return ()
    older = (read_key_file(directory, path.stem) for path in _older(directory))
    return (current, *(key for key in older if key is not None))


def rotate(directory: Path) -> tuple[bytes, ...]:
    """Makes a new key that seals from now on, and keeps the one before it; the keys then. Raises StateDirectoryError."""
    current = directory / f"{NAME}.key"
    try:
        owner = current.stat()
        new = directory / f"{_NEXT}.key"
        if not new.exists():
            _make(new, owner)
        old = directory / f"{NAME}-{key_id(current.read_bytes())}.key"
        with contextlib.suppress(FileExistsError):
            os.link(current, old)
        sync_directory(directory)
        new.rename(current)
        sync_directory(directory)
    except OSError as error:
        raise state_error(current, error) from error
    return read(directory)


def drop_older(directory: Path) -> int:
    """Removes the keys that only open; how many were. Raises StateDirectoryError."""
    dropped = 0
    for path in _older(directory):
        try:
            path.unlink()
            sync_directory(directory)
        except OSError as error:
            raise state_error(path, error) from error
        dropped += 1
    return dropped


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """One rotation at a time. Raises ConflictError, StateDirectoryError."""
    try:
        # The directory itself is locked, so that no file is left behind.
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise state_error(directory, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConflictError("another rotation of the key is under way on this state directory") from None
    finally:
        os.close(lock)


def _older(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob(f"{NAME}-*.key") if path.stem != _NEXT)


def _make(path: Path, owner: os.stat_result) -> None:
    """A key that belongs to whoever the key before it belongs to: whole and on the disk before it has its name."""
    making = path.with_name(f"{path.name}.tmp")
    making.unlink(missing_ok=True)
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    try:
        os.fchmod(descriptor, 0o400)
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        if os.write(descriptor, os.urandom(KEY_BYTES)) != KEY_BYTES:
            raise StateDirectoryError(f"{making} could not be written whole; is the disk full?")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    making.rename(path)
