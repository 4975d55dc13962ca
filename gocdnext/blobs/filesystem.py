"""Blobs as files below one directory. All file work is done in worker threads, in large pieces.

    <root>/                  0700
      .incoming/<random>     uploads that are under way; renamed into place when they are on the disk
      <key>                  one file for each blob

Several servers may share a root. Nothing here knows what the blobs are.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from gocdnext.blobs.store import Blob, Listed, Piece, Stored, check_key
from gocdnext.db.statedir import sync_directory
from gocdnext.errors import DomainError, NoRoomError, TooLargeError

READ_PIECE = 1024 * 1024
"""Bytes read at a time; also the memory that a download takes."""
THREADS = 8
"""File operations at a time: a slow disk holds up blobs, not the rest of the server."""
PAGE = 1000
_RENAME_ATTEMPTS = 50

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = structlog.get_logger(__name__)


class StoreError(DomainError):
    """The directory cannot be used; the message says which and why."""


class FilesystemStore:
    """Implements `BlobStore`."""

    direct = False

    def __init__(self, root: Path, *, min_free: int) -> None:
        """`min_free` are the bytes of its file system that uploads leave free, 0 for none. Raises StoreError."""
        self._root = root
        self._incoming = root / ".incoming"
        self._min_free = min_free
        self._threads = trio.CapacityLimiter(THREADS)
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._incoming.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot keep artifacts in {root}: {error.strerror}. Make it a directory that this user may write to, "
                "or name another one with GOCDNEXT_ARTIFACTS_FS_ROOT."
            ) from error

    async def put(self, key: str, pieces: AsyncIterable[Piece], *, expected: int = 0, limit: int = 0) -> Stored:
        """See `BlobStore.put`."""
        target = self._path(key)
        if limit and expected > limit:
            raise TooLargeError("artifact exceeds max size")
        upload = _Upload(self._incoming / secrets.token_hex(16), limit, self._min_free)
        kept = False
        try:
            await self._in_thread(upload.begin, expected)
            async for piece in pieces:
                await self._in_thread(upload.write, piece)
            stored = await self._in_thread(upload.keep, target, self._root)
            kept = True
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoRoomError("no room is left on the disk of the artifact store") from error
            raise
        finally:
            if not kept:
                # Short: one close and one unlink. A client that leaves must not leave its file behind.
                with trio.CancelScope(shield=True):
                    await self._in_thread(upload.discard)
        return stored

    @contextlib.asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Blob | None]:
        """See `BlobStore.open`."""
        path = self._path(key)
        try:
            descriptor = await self._in_thread(os.open, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        try:
            yield _File(descriptor, self._threads)
        finally:
            os.close(descriptor)

    async def sizes(self, keys: Sequence[str]) -> Mapping[str, int]:
        """See `BlobStore.sizes`."""
        paths = {key: self._path(key) for key in keys}

        def look() -> dict[str, int]:
            found = {}
            for key, path in paths.items():
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    found[key] = path.lstat().st_size
            return found

        return await self._in_thread(look)

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See `BlobStore.delete`. What cannot be removed is logged."""
        paths = {key: self._path(key) for key in keys}

        def remove() -> list[str]:
            return [key for key, path in paths.items() if _remove(path, self._root)]

        return await self._in_thread(remove)

    async def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        """See `BlobStore.pages`."""
        found = _walk(self._path(prefix), self._root)
        while page := await self._in_thread(list, islice(found, PAGE)):
            yield page

    async def clean(self, older_than: datetime) -> int:
        """See `BlobStore.clean`. An upload that is under way, on whichever server, was written to a moment ago."""

        def remove() -> int:
            left = [file for file in _walk(self._incoming, self._incoming) if file.modified < older_than]
            return sum(_remove(self._incoming / file.key, self._incoming) for file in left)

        return await self._in_thread(remove)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    async def _in_thread(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._threads)


class _File:
    """Implements `Blob`."""

    def __init__(self, descriptor: int, threads: trio.CapacityLimiter) -> None:
        self._descriptor = descriptor
        self._threads = threads
        self.size = os.fstat(descriptor).st_size

    async def pieces(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See `Blob.pieces`. Raises OSError when the file is shorter than it was."""
        while start < stop:
            wanted = min(READ_PIECE, stop - start)
            piece = await trio.to_thread.run_sync(os.pread, self._descriptor, wanted, start, limiter=self._threads)
            if not piece:
                raise OSError(errno.EIO, "the blob was cut off while it was read")
            start += len(piece)
            yield piece


class _Upload:
    """A file that comes in. For worker threads, one call at a time."""

    def __init__(self, path: Path, limit: int, min_free: int) -> None:
        self._path = path
        self._limit = limit
        self._min_free = min_free
        self._descriptor = -1
        self._size = 0
        self._hash = hashlib.sha256()

    def begin(self, expected: int) -> None:
        """Raises NoRoomError when what was announced has no room."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._require_room(expected)

    def write(self, piece: Piece) -> None:
        """Raises TooLargeError, and NoRoomError before the disk is so full that others suffer."""
        self._size += len(piece)
        if self._limit and self._size > self._limit:
            raise TooLargeError("artifact exceeds max size")
        self._require_room(len(piece))
        self._hash.update(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def keep(self, target: Path, root: Path) -> Stored:
        """On the disk first, then under its name, then the name on the disk."""
        os.fsync(self._descriptor)
        for attempts_left in reversed(range(_RENAME_ATTEMPTS)):
            try:
                _make_folders(target.parent, root)
                self._path.rename(target)
                break
            except (FileExistsError, FileNotFoundError):
                # A folder went just now, because its last blob was deleted. (It "exists" when it was there for mkdir and
                # was not for the look that is taken then.)
                if not attempts_left:
                    raise
        sync_directory(target.parent)
        self._close()
        return Stored(self._size, self._hash.hexdigest())

    def discard(self) -> None:
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _require_room(self, wanted: int) -> None:
        if not self._min_free:
            return
        status = os.fstatvfs(self._descriptor)
        if status.f_bavail * status.f_frsize - wanted < self._min_free:
            raise NoRoomError(
                f"the disk of the artifact store is nearly full: an upload must leave {self._min_free // 2**20} MiB "
                "free (GOCDNEXT_ARTIFACTS_MIN_FREE_MB). Free some space there and run the job again."
            )


def _make_folders(folder: Path, root: Path) -> None:
    """Makes what is missing below `root`, each name durable before anything is put below it."""
    if folder == root or folder.is_dir():
        return
    _make_folders(folder.parent, root)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_directory(folder.parent)


def _walk(folder: Path, root: Path) -> Iterator[Listed]:
    """The files below a folder, which may change meanwhile; keys are relative to `root`."""
    for directory, _, names in os.walk(folder):
        for name in names:
            path = Path(directory, name)
            with contextlib.suppress(FileNotFoundError):
                modified = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
                yield Listed(path.relative_to(root).as_posix(), modified)


def _remove(path: Path, root: Path) -> bool:
    """Removes a file and the folders that it leaves empty; False, and a line in the log, when it stays."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("a blob cannot be removed", key=path.relative_to(root).as_posix(), error=str(error))
        return False
    with contextlib.suppress(OSError):
        for folder in path.parents:
            if folder == root:
                break
            folder.rmdir()
    return True
