"""Making files, directories and links below a root, whatever is there already (anchors E 12). It reads no archives."""

from __future__ import annotations

import errno
import os
import stat

from gocdnext.agent.failures import DeliveryError


class PlaceError(DeliveryError):
    """Something cannot be made where it belongs; the text says what and why."""


class Tree:
    """Makes files, directories and links below a root, by descriptors of directories that were entered without
    following links, or whose place the kernel says is below the root."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._at: tuple[str, ...] = ()
        self._fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)

    def create(self, parts: tuple[str, ...]) -> int:
        """A descriptor of a new empty file, in the place of a file or link that was there."""
        parent, name = self._make_way(parts)
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)

    def link(self, parts: tuple[str, ...], target: str) -> None:
        """Makes a link, in the place of a file or link that was there."""
        parent, name = self._make_way(parts)
        os.symlink(target, name, dir_fd=parent)

    def enter(self, parts: tuple[str, ...]) -> int:
        """The descriptor of a directory, which is made with all above it when it is not there. It is ours to close."""
        if parts == self._at:
            return self._fd
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for number, part in enumerate(parts, 1):
                below = self._step(fd, part, "/".join(parts[:number]))
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._at = fd, parts
        return fd

    def _make_way(self, parts: tuple[str, ...]) -> tuple[int, str]:
        parent, name = self.enter(parts[:-1]), parts[-1]
        try:
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                raise PlaceError(f"{'/'.join(parts)!r} is a directory here and none in the archive")
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        return parent, name

    def _step(self, fd: int, part: str, shown: str) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            return os.open(part, flags | os.O_NOFOLLOW, dir_fd=fd)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=fd)
            made = os.open(part, flags | os.O_NOFOLLOW, dir_fd=fd)
            os.fchmod(made, 0o755)
            return made
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:  # a file, or a link
                raise
            below = os.open(part, flags, dir_fd=fd)
        place = os.readlink(f"/proc/self/fd/{below}")
        if place != self._root and not place.startswith(self._root.rstrip("/") + "/"):
            os.close(below)
            raise PlaceError(f"{shown!r} is a link that leads out of the directory of the job")
        return below
