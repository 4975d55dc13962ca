"""Archives of artifacts and caches: tar.gz, both ways (protocol-agent 3.9; anchors E 12). Files only, and no waiting.

Neither direction follows a link out of the job's directory, makes or reads anything but files, directories and links,
or goes on beyond LIMITS. The work is done in worker threads; `check` ends it early.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from gocdnext.agent.disk import DiskGuard, explain
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.found import Check, Selection, never
from gocdnext.agent.gzipped import GzipError, GzipReader, GzipWriter
from gocdnext.agent.tree import PlaceError, Tree

COPY = 1024 * 1024
MAX_HEADER = 1024 * 1024
"""Bytes that describe one entry: long names and the like, which are held in memory."""
_KINDS = {stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_TAR_KINDS = {tarfile.FIFOTYPE: "a fifo", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device"}


class ArchiveError(DeliveryError):
    """It cannot be packed or unpacked; the text says why and names the file or the limit."""


@dataclass(frozen=True)
class Limits:
    """What one archive may hold, both ways: what could not be unpacked is not packed. Sizes are bytes."""

    entries: int = 1_000_000
    unpacked: int = 64 * 1024**3
    packed: int = 16 * 1024**3
    ratio: int = 200
    """How much larger than the archive its content may be, once it is larger than `ratio_from`."""
    ratio_from: int = 4 * 1024**3

    def check_size(self, packed: int, unpacked: int) -> None:
        """ArchiveError beyond the limits."""
        if unpacked > self.unpacked:
            raise ArchiveError(f"the content is larger than {_size(self.unpacked)}; that is the limit")
        if packed > self.packed:
            raise ArchiveError(f"the archive is larger than {_size(self.packed)}; that is the limit")
        if unpacked > self.ratio_from and unpacked > packed * self.ratio:
            raise ArchiveError(
                f"the content is more than {self.ratio} times as large as the archive; that is the limit for content "
                f"of more than {_size(self.ratio_from)}"
            )

    def check_entries(self, entries: int) -> None:
        """ArchiveError beyond the limit."""
        if entries > self.entries:
            raise ArchiveError(f"the archive has more than {self.entries:,} entries; that is the limit")


LIMITS = Limits()
MAX_SKIPPED = 20
"""Entries whose absence is told one by one."""


class _Skipped:
    """What was left out of an archive: the first ones in words, the others as a number."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._more = 0

    def add(self, name: str, what: str) -> None:
        if len(self._lines) < MAX_SKIPPED:
            self._lines.append(f"{name} is {what}; skipped")
        else:
            self._more += 1

    def lines(self) -> tuple[str, ...]:
        more = [f"{self._more} more entries are skipped"] if self._more else []
        return (*self._lines, *more)


@dataclass(frozen=True)
class Packed:
    """An archive in a file. `size` and `sha256` are those of its bytes; `skipped` says what was left out and why."""

    size: int
    sha256: str
    entries: int
    skipped: tuple[str, ...]


def pack(
    root: str, selections: Sequence[Selection], target: str, check: Check = never, limits: Limits = LIMITS
) -> Packed:
    """Packs what was selected below `root`, with all that is below directories, in that order, into the file `target`.

    Entries are named as the selections are; a selected directory has no entry of its own. Links are stored as links.
    Raises ArchiveError, FoundError (a selection leads out), DiskFullError.
    """
    packer = _Packer(root, check, limits)
    try:
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", 0) as file:
            return packer.write(file, selections, DiskGuard(os.path.dirname(target)))
    except tarfile.TarError as error:
        raise ArchiveError(f"{packer.current!r} cannot be packed: {error}") from error
    except OSError as error:
        raise ArchiveError(f"{packer.current!r} cannot be packed: {explain(error, root)}") from error


class _Packer:
    def __init__(self, root: str, check: Check, limits: Limits) -> None:
        self.current = ""
        self._root = root
        self._check = check
        self._limits = limits
        self._entries = 0
        self._skipped = _Skipped()

    def write(self, file: IO[bytes], selections: Sequence[Selection], guard: DiskGuard) -> Packed:
        guard.check()
        zipped = GzipWriter(file, guard.wrote)
        with tarfile.TarFile(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT, copybufsize=COPY) as tar:  # type: ignore[arg-type]
            for selection in selections:
                for name in selection.names:
                    for below, path in self._below(name, selection.path(self._root, name)):
                        self._add(tar, below, path, zipped)
        zipped.close()
        return Packed(zipped.size, zipped.sha256, self._entries, self._skipped.lines())

    def _below(self, name: str, path: str) -> Iterator[tuple[str, str]]:
        """Names of entries and where their content is: the path itself or, for a directory, all below it."""
        if os.path.islink(path) or not os.path.isdir(path):
            yield name, path
            return
        waiting = [(name, path)]
        while waiting:
            name, directory = waiting.pop()
            self.current = name
            entries = sorted(os.listdir(directory), key=os.fsencode)
            self._limits.check_entries(len(entries))
            for entry in entries:
                below, path = f"{name}/{entry}" if name else entry, os.path.join(directory, entry)
                yield below, path
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    waiting.append((below, path))

    def _add(self, tar: tarfile.TarFile, name: str, path: str, zipped: GzipWriter) -> None:
        self.current = name
        info = self._describe(name, path)
        if info is None:
            return
        self._entries += 1
        self._limits.check_entries(self._entries)
        self._watch(zipped)
        if not info.isreg():
            tar.addfile(info)
        else:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", 0) as content:
                tar.addfile(info, _Watched(content, lambda: self._watch(zipped)))  # type: ignore[arg-type]
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all

    def _watch(self, zipped: GzipWriter) -> None:
        self._check()
        self._limits.check_size(zipped.size, zipped.tell())

    def _describe(self, name: str, path: str) -> tarfile.TarInfo | None:
        """The entry, without owner and with whole seconds, so that the same content gives the same archive."""
        found = os.lstat(path)
        info = tarfile.TarInfo(name)
        info.mode = found.st_mode & 0o777
        if stat.S_ISREG(found.st_mode):
            info.size, info.mtime = found.st_size, max(int(found.st_mtime), 0)
            return info
        if stat.S_ISDIR(found.st_mode):
            info.type = tarfile.DIRTYPE
            return info
        if not stat.S_ISLNK(found.st_mode):
            self._skipped.add(name, _KINDS.get(stat.S_IFMT(found.st_mode), "no file"))
            return None
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
        if _leads_out(_parts(name), info.linkname):
            self._skipped.add(name, f"a link that leads out, to {info.linkname}")
            return None
        return info


class _Watched:
    """A file being read, with a look at cancellation and limits for every piece."""

    def __init__(self, file: IO[bytes], watch: Callable[[], None]) -> None:
        self._file = file
        self._watch = watch

    def read(self, size: int) -> bytes:
        """Exactly as many bytes: the entry's header has promised them."""
        self._watch()
        data = self._file.read(size)
        while len(data) < size:
            more = self._file.read(size - len(data))
            if not more:
                raise ArchiveError("a file changed while it was packed")
            data += more
        return data


@dataclass(frozen=True)
class Unpacked:
    """`size` counts the bytes of the content; `skipped` says what was left out and why."""

    entries: int
    size: int
    skipped: tuple[str, ...]


def unpack(file: IO[bytes], root: str, dest: str = "", check: Check = never, limits: Limits = LIMITS) -> Unpacked:
    """Unpacks into the clean relative path `dest` below `root`, over what is there. The caller has verified the hash.

    Entries that lead out are refused. An existing file or link is replaced, never written through. Raises
    ArchiveError, FoundError and DiskFullError; what was unpacked until then stays.
    """
    unpacker = _Unpacker(root, dest, check, limits)
    try:
        return unpacker.read(file)
    except (tarfile.TarError, GzipError, RecursionError, ValueError) as error:  # ValueError: a name with a NUL, say
        detail = str(error) if not isinstance(error, RecursionError) else "a header without an end"
        raise ArchiveError(f"the archive cannot be read: {detail}") from error
    except PlaceError as error:
        raise ArchiveError(str(error)) from error
    except OSError as error:
        raise ArchiveError(f"{unpacker.current!r} cannot be unpacked: {explain(error, root)}") from error
    finally:
        unpacker.close()


class _Unpacker:
    def __init__(self, root: str, dest: str, check: Check, limits: Limits) -> None:
        self.current = dest
        self._tree = Tree(root)
        self._dest = tuple(part for part in dest.split("/") if part)
        self._check = check
        self._limits = limits
        self._guard = DiskGuard(root)
        self._header_until = 0  # what may be unpacked while a header is being read
        self._size = 0
        self._skipped = _Skipped()

    def close(self) -> None:
        self._tree.close()

    def read(self, file: IO[bytes]) -> Unpacked:
        self._guard.check()
        self._tree.enter(self._dest)
        zipped = GzipReader(file, self._check_size)
        count = 0
        self._header_until = MAX_HEADER + COPY
        with tarfile.open(fileobj=zipped, mode="r|", bufsize=COPY) as tar:  # type: ignore[call-overload]
            stream: Any = tar.fileobj
            while (member := tar.next()) is not None:
                self._header_until = 0
                count += 1
                self._limits.check_entries(count)
                self._place(stream, member)
                stream.seek(tar.offset)  # over what was not read
                tar.members.clear()
                tar.pax_headers = {}  # of all entries; nothing in them is wanted
                self._header_until = zipped.unpacked + MAX_HEADER + COPY  # it reads ahead by COPY
        self._header_until = 0
        while zipped.read(COPY):  # to its end, where the check sum is
            pass
        return Unpacked(count, self._size, self._skipped.lines())

    def _check_size(self, packed: int, unpacked: int) -> None:
        self._check()
        if 0 < self._header_until < unpacked:
            raise ArchiveError(f"an entry's header is larger than {_size(MAX_HEADER)}; that is the limit")
        self._limits.check_size(packed, unpacked)

    def _place(self, stream: IO[bytes], member: tarfile.TarInfo) -> None:
        self.current = member.name
        parts = _parts(member.name)
        if member.isdir():
            self._tree.enter(self._dest + parts)
        elif not parts:
            raise ArchiveError(f"the entry {member.name!r} has no name")
        elif member.issym():
            if _leads_out(parts, member.linkname):
                raise ArchiveError(f"the link {member.name!r} leads out, to {member.linkname!r}")
            self._tree.link(self._dest + parts, member.linkname)
        elif member.issparse():
            raise ArchiveError(f"{member.name!r} is stored as a sparse file, which is not unpacked")
        elif member.isreg():
            self._write(stream, member, self._dest + parts)
        else:
            self._skipped.add(member.name, _TAR_KINDS.get(member.type, "a hard link" if member.islnk() else "no file"))

    def _write(self, stream: IO[bytes], member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        with open(self._tree.create(parts), "wb", 0) as target:
            left = member.size
            while left:
                data = stream.read(min(COPY, left))
                if not data:
                    raise ArchiveError("the archive cannot be read: it ends too early")
                _write_all(target, data)
                left -= len(data)
                self._size += len(data)
                self._guard.wrote(len(data))
            os.fchmod(target.fileno(), member.mode & 0o777 or 0o644)
            if 0 <= member.mtime < 2**33:
                os.utime(target.fileno(), (member.mtime, member.mtime))


def _parts(name: str) -> tuple[str, ...]:
    """The name of an entry, taken apart. ArchiveError when it leads out."""
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if name.startswith("/") or ".." in parts:
        raise ArchiveError(f"the entry {name!r} leads out of the directory it is unpacked into")
    return parts


def _leads_out(parts: tuple[str, ...], target: str) -> bool:
    """Whether a relative link does. An absolute one means a place of the machine that the job runs on."""
    if target.startswith("/"):
        return False
    depth = len(parts) - 1
    for part in target.split("/"):
        depth += -1 if part == ".." else 0 if part in {"", "."} else 1
        if depth < 0:
            return True
    return False


def _write_all(file: IO[bytes], data: bytes) -> None:
    """An unbuffered file may take less than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _size(size: int) -> str:
    """As limits are written: `64 GiB`, `512 bytes`."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} bytes"
