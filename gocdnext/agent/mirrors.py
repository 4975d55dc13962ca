"""Bare mirrors of remote repositories in the work root, so that a checkout moves only what is new (protocol-agent 3.6).

One per URL, locked while it is written, copied (never linked) into a job's directory: what a job does to its copy reaches
no other job. It knows neither jobs nor credentials: whoever fetches brings them along, and they are not kept here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import trio

from gocdnext.agent.workspace import MIRRORS, remove_tree, try_lock

MAX_MIRRORS = 64
WAIT = 600.0
"""Seconds that a checkout waits for others that write the same mirror; then it goes without."""
LOOK = 0.05
"""Seconds between two looks at a lock: the holder may be another process, so nothing tells when it is free."""
CHECKSUM = 20
"""Bytes of the checksum at the end of a pack."""
TOO_LARGE_FOR = 86400.0
"""Seconds for which a repository that alone exceeds the limit is not mirrored again."""


@dataclass(frozen=True)
class Mirror:
    """A locked mirror. `path` is a bare repository, or nothing yet."""

    path: str
    lock: int

    def usable(self) -> bool:
        """Whether it is there and its packs are whole, as far as that is seen at a glance: git looks no closer before
        it copies them. Damage within a pack is found when its objects are read."""
        packs = os.path.join(self.path, "objects", "pack")
        try:
            return os.path.exists(os.path.join(self.path, "HEAD")) and all(
                _whole(os.path.join(packs, name)) for name in os.listdir(packs) if name.endswith(".pack")
            )
        except OSError:
            return False

    async def remove(self) -> None:
        """For one that is damaged."""
        await trio.to_thread.run_sync(remove_tree, self.path)

    def exclusive(self) -> bool:
        """Tries to have it alone again, to remove it."""
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share(self) -> None:
        """From now on others may read it too, and nobody write."""
        fcntl.flock(self.lock, fcntl.LOCK_SH)


class Mirrors:
    """All mirrors below a work root, together at most `limit` bytes; none when that is 0."""

    def __init__(self, root: str, limit: int) -> None:
        self._folder = os.path.join(root, MIRRORS)
        self._limit = limit

    @contextlib.asynccontextmanager
    async def locked(self, url: str) -> AsyncIterator[Mirror | None]:
        """The mirror for a URL without credentials, for this caller alone. None when it is to do without. At the end
        the oldest ones go, as far as there are too many."""
        path = os.path.join(self._folder, hashlib.sha256(url.encode()).hexdigest()[:32])
        lock = await self._lock(path)
        if lock is None:
            yield None
            return
        try:
            yield Mirror(path, lock)
        finally:
            os.close(lock)
            with trio.CancelScope(shield=True):  # short: it looks at files, and removes only what nobody uses
                await trio.to_thread.run_sync(self._tidy, path)

    async def _lock(self, path: str) -> int | None:
        if self._limit <= 0 or _marked(path):
            return None
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            with trio.move_on_after(WAIT):
                while (lock := try_lock(path)) is None:  # noqa: ASYNC110
                    await trio.sleep(LOOK)
                return lock
        except OSError:  # a full disk, or no permission: the clone itself will say it
            return None
        return None

    def _tidy(self, used: str) -> None:
        with contextlib.suppress(OSError):
            if os.path.isdir(used):
                os.utime(used)
                if tree_size(used) > self._limit:
                    open(f"{used}.large", "wb").close()
                    _remove_unused(used)
            left = self._limit
            for number, path in enumerate(sorted(_all(self._folder), key=os.path.getmtime, reverse=True)):
                left -= tree_size(path)
                if number >= MAX_MIRRORS or left < 0:
                    _remove_unused(path)


def remove_oldest(root: str, enough: Callable[[], bool]) -> int:
    """Removes mirrors that nobody uses, the one that was not used for longest first, until there is room enough."""
    removed = 0
    with contextlib.suppress(OSError):
        for path in sorted(_all(os.path.join(root, MIRRORS)), key=os.path.getmtime):
            if enough():
                break
            removed += _remove_unused(path)
    return removed


def tree_size(path: str) -> int:
    """Bytes of all files below a directory."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _all(folder: str) -> Iterator[str]:
    """Paths of all mirrors."""
    if os.path.isdir(folder):
        for entry in list(os.scandir(folder)):
            if "." not in entry.name and entry.is_dir(follow_symlinks=False):
                yield entry.path


def _marked(path: str) -> bool:
    """Whether the repository was found to be too large a short while ago."""
    try:
        return time.time() - os.stat(f"{path}.large").st_mtime < TOO_LARGE_FOR
    except OSError:
        return False


def _whole(pack: str) -> bool:
    """Whether a pack begins as one, and ends with the checksum that its index names."""
    with open(pack, "rb") as data, open(f"{pack.removesuffix('pack')}idx", "rb") as index:
        if data.read(4) != b"PACK":
            return False
        data.seek(-CHECKSUM, os.SEEK_END)
        index.seek(-2 * CHECKSUM, os.SEEK_END)
        return data.read() == index.read(CHECKSUM)


def _remove_unused(path: str) -> bool:
    """Its lock file stays: were it removed, two could hold locks of the same name."""
    lock = try_lock(path)
    if lock is None:
        return False
    try:
        remove_tree(path)
    finally:
        os.close(lock)
    return True
