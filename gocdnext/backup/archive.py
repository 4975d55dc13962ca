"""The file of a backup: a plain tar with these members in this order, and nothing else. Written once, read from front to end.

    gocdnext-backup.json     what this is: `Header`
    database.dump            what pg_dump wrote (custom format)
    blobs/00000001.jsonl     up to PAGE blobs, a JSON line each: key, size, sha256 ("" where the database keeps none)
    blobs/<key>              the contents of those, unless only the list was wanted; then the next page, and so on
    keys.json                the keys, sealed (`sealing`); only if asked
    manifest.json            counts and checksums: `Manifest`. Its presence says that the archive is whole

Any tar program lists and unpacks it. Reading is strict: a member that is not one of these makes the archive somebody else's,
and no name of a member is ever taken as a path (`blobs.store.check_key`). Knows nothing of databases and stores.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from gocdnext.backup.errors import ArchiveError, NotEmptyError
from gocdnext.blobs.store import is_key
from gocdnext.db.errors import NO_SPACE, StateDirectoryError, full_message, state_error

FORMAT = 1
HEADER, DATABASE, KEYS, MANIFEST = "gocdnext-backup.json", "database.dump", "keys.json", "manifest.json"
BLOBS = "blobs/"
PAGE = 1000
"""Blobs that are listed at a time: so much of the list is in memory."""
PIECE = 1024 * 1024
LARGEST_DOCUMENT = 16 * 2**20
"""Bytes of a member that is read whole."""
LONGEST_NAME = 600
SYNC_EVERY = 32 * 2**20
"""Bytes after which what was written goes to the disk, so that a server's commits never wait for gigabytes of ours."""
_BLOCK = tarfile.BLOCKSIZE
_LONG_NAME = "././@LongLink"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What stands first. `format` grows when an older program could not read the rest."""

    format: int
    version: str
    """Of the gocdnext that wrote it."""
    schema: int
    """The newest migration."""
    postgres: int
    """The major version of the server."""
    pg_dump: int
    """The major version of what wrote the dump."""
    schema_name: str
    created_at: str
    database_bytes: int
    """On the disk of the server: what a restore takes at least."""
    blobs: str
    """`content`, or `list`: then the contents are not in it."""


class Table(msgspec.Struct, frozen=True):
    """What a table had in it."""

    rows: int
    digest: str


class Member(msgspec.Struct, frozen=True):
    """A member as it was written."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What stands last."""

    members: dict[str, Member]
    """Those with fixed names."""
    chain: str
    """SHA-256 over a line for each member below `blobs/`, in order: name, size, sha256."""
    tables: dict[str, Table]
    blobs: int
    """Blobs that are listed."""
    blob_bytes: int
    missing: int
    """Blobs that the database knows and the store did not have."""
    damaged: int
    """Blobs whose content was not what the database says: they are in the archive as they were."""
    sealed_with: list[str]
    """Ids of the keys that secrets in the database are sealed with."""


class Listed(msgspec.Struct, frozen=True):
    """A line of the list of blobs."""

    key: str
    size: int
    sha256: str


class Writer:
    """Writes members one after the other. Made by `writing`. Raises StateDirectoryError for what the disk says."""

    def __init__(self, file: io.FileIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._unsynced = 0
        self._chain = hashlib.sha256()
        self.members: dict[str, Member] = {}

    @property
    def chain(self) -> str:
        """`Manifest.chain` so far."""
        return self._chain.hexdigest()

    def document(self, name: str, content: bytes) -> None:
        """A member that is there as a whole."""
        with self.member(name) as add:
            add.write(content)

    @contextmanager
    def member(self, name: str) -> Iterator[Adding]:
        """A member whose length is known when it has been written."""
        begin = self._file.tell()
        before = _long_name(name)
        self.put(before + bytes(_BLOCK))
        adding = Adding(self)
        yield adding
        self.put(bytes(-adding.size % _BLOCK))
        end = self._file.tell()
        self._file.seek(begin + len(before))
        self._file.write(_entry(name, adding.size))
        self._file.seek(end)
        member = Member(adding.size, adding.sha256)
        if name.startswith(BLOBS):
            self._chain.update(_line(name, member))
        else:
            self.members[name] = member

    def end(self) -> None:
        """The two empty blocks at the end of a tar, and everything to the disk."""
        self.put(bytes(2 * _BLOCK))
        os.fsync(self._file.fileno())

    def put(self, piece: bytes) -> None:
        """The next bytes of the file."""
        try:
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]
            self._unsynced += len(piece)
            if self._unsynced >= SYNC_EVERY:
                os.fdatasync(self._file.fileno())
                self._unsynced = 0
        except OSError as error:
            raise _explained(self._path, error) from error


class Adding:
    """The member that is being written."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()

    def write(self, piece: bytes) -> None:
        """The next bytes."""
        self._hash.update(piece)
        self.size += len(piece)
        self._writer.put(piece)


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """An archive that has its name when the block has ended well, and is not there otherwise; readable for its owner only.

    Raises NotEmptyError when the file is there or another backup writes it, StateDirectoryError for what the disk says.
    """
    if os.path.lexists(path):
        raise NotEmptyError(f"{path} is there already, and a backup never replaces anything: say another name")
    making = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(making, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise StateDirectoryError(f"cannot write {path}: there is no directory {path.parent}") from None
    except OSError as error:
        raise _explained(path, error) from error
    # Without a buffer: one that could not be written would be tried again when the file is closed.
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotEmptyError(f"another backup is being written to {path}") from None
        kept = False
        try:
            os.ftruncate(descriptor, 0)
            writer = Writer(file, path)
            yield writer
            writer.end()
            os.rename(making, path)
            _sync(path.parent)
            kept = True
        except OSError as error:
            raise _explained(path, error) from error
        finally:
            if not kept:
                making.unlink(missing_ok=True)


class Opened:
    """A member that is being read: all of it, or what the reader skips when it goes on."""

    def __init__(self, file: BinaryIO, name: str, size: int) -> None:
        self._file = file
        self.name = name
        self.size = size
        self.left = size
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of everything, once it is read."""
        return self._hash.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """The content. Raises ArchiveError when it is cut off."""
        while self.left:
            piece = self._file.read(min(PIECE, self.left))
            if not piece:
                raise ArchiveError(f"the archive is cut off: it ends within {self.name}. Nothing was changed.")
            self.left -= len(piece)
            self._hash.update(piece)
            yield piece

    def whole(self) -> bytes:
        """The content of a small member. Raises ArchiveError."""
        if self.size > LARGEST_DOCUMENT:
            raise ArchiveError(f"this is not an archive of gocdnext: its {self.name} has {self.size} bytes")
        return b"".join(self.pieces())


def reading(file: BinaryIO) -> Iterator[Opened]:
    """The members of an archive in their order, each read or skipped before the next. Raises ArchiveError."""
    first = True
    while True:
        opened = _next(file, first)
        if opened is None:
            return
        if first and opened.name != HEADER:
            raise ArchiveError("this is not an archive of gocdnext: it does not begin as one")
        first = False
        yield opened
        for _ in opened.pieces():
            pass
        padding = -opened.size % _BLOCK
        if len(file.read(padding)) != padding:
            raise ArchiveError(f"the archive is cut off: it ends behind {opened.name}. Nothing was changed.")


def header_of(opened: Opened) -> Header:
    """What the first member says. Raises ArchiveError, also for a later format."""
    content = opened.whole()
    try:
        number = msgspec.json.decode(content, type=dict[str, object]).get("format")
        if isinstance(number, int) and number > FORMAT:
            raise ArchiveError(
                f"this archive has format {number} and this program knows formats up to {FORMAT}: a later gocdnext wrote it. "
                "Nothing was changed. Restore it with that version or a later one."
            )
        header = msgspec.json.decode(content, type=Header)
    except msgspec.MsgspecError as error:
        raise ArchiveError(f"this is not an archive of gocdnext: {error}") from None
    return header


def decoded(opened: Opened) -> Manifest:
    """The manifest. Raises ArchiveError."""
    try:
        return msgspec.json.decode(opened.whole(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArchiveError(f"the archive is damaged: its manifest cannot be read ({error})") from None


def page_of(opened: Opened) -> list[Listed]:
    """A page of the list of blobs, without what is no key. Raises ArchiveError."""
    try:
        lines = [msgspec.json.decode(line, type=Listed) for line in opened.whole().splitlines()]
    except msgspec.MsgspecError as error:
        raise ArchiveError(f"the archive is damaged: a list of blobs cannot be read ({error})") from None
    for line in lines:
        if not is_key(line.key) or line.size < 0:
            raise ArchiveError(f"this is not an archive of gocdnext: it lists the blob {line.key[:64]!r}")
    return lines


def chained(chain: hashlib._Hash, opened: Opened) -> None:
    """Adds a member that was read to `Manifest.chain`."""
    chain.update(_line(opened.name, Member(opened.size, opened.sha256)))


def is_page(name: str) -> bool:
    """Whether a member is a page of the list of blobs."""
    return name.startswith(BLOBS) and name.endswith(".jsonl") and name[len(BLOBS) : -len(".jsonl")].isdecimal()


def page_name(number: int) -> str:
    """The name of a page; blobs have a slash in their keys, pages have none."""
    return f"{BLOBS}{number:08}.jsonl"


def _next(file: BinaryIO, first: bool) -> Opened | None:
    """The next header; None at the end. One that gives the name of the next is what GNU tar has for long names."""
    info, name = _info(file, first), None
    if info is not None and info.name == _LONG_NAME and info.type == tarfile.GNUTYPE_LONGNAME:
        if not 0 < info.size <= LONGEST_NAME:
            raise _strange("a name of a member")
        name = file.read(info.size + -info.size % _BLOCK)[: info.size].rstrip(b"\0").decode("utf-8", "replace")
        info = _info(file, False)
    if info is None:
        if first:
            raise ArchiveError("this is not an archive of gocdnext: it is empty")
        return None
    name = name or info.name
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.size < 0 or not _is_ours(name):
        raise _strange(f"{name[:64]!r}")
    return Opened(file, name, info.size)


def _info(file: BinaryIO, first: bool) -> tarfile.TarInfo | None:
    block = file.read(_BLOCK)
    if block == bytes(_BLOCK):
        return None
    if len(block) < _BLOCK:
        if first:
            raise ArchiveError("this is not an archive of gocdnext: it is too short")
        raise ArchiveError("the archive is cut off: it has no end. Nothing was changed.")
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    except tarfile.TarError:
        if first:
            raise ArchiveError("this is not an archive of gocdnext: it is no tar file") from None
        raise ArchiveError("the archive is damaged: between two of its members stands something else") from None


def _is_ours(name: str) -> bool:
    return name in (HEADER, DATABASE, KEYS, MANIFEST) or is_page(name) or _is_blob(name)


def _is_blob(name: str) -> bool:
    return name.startswith(BLOBS) and is_key(name.removeprefix(BLOBS))


def _strange(what: str) -> ArchiveError:
    return ArchiveError(f"this is not an archive of gocdnext: {what} does not belong in one. Nothing was changed.")


def _long_name(name: str) -> bytes:
    encoded = name.encode() + b"\0"
    if len(encoded) <= tarfile.LENGTH_NAME:
        return b""
    return _entry(_LONG_NAME, len(encoded), tarfile.GNUTYPE_LONGNAME) + encoded + bytes(-len(encoded) % _BLOCK)


def _entry(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """One block, with the name cut where the block before has it in full."""
    info = tarfile.TarInfo(name[: tarfile.LENGTH_NAME])
    info.size, info.type, info.mode = size, kind, 0o600
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def _line(name: str, member: Member) -> bytes:
    return f"{name} {member.size} {member.sha256}\n".encode()


def _explained(path: Path, error: OSError) -> StateDirectoryError:
    if error.errno in NO_SPACE:
        return StateDirectoryError(
            f"{full_message(path).split('. ')[0]}. Nothing is left of the backup that was begun."
        )
    return state_error(path, error)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def opened_file(path: Path) -> BinaryIO:
    """A backup for reading. Raises ArchiveError when there is none."""
    try:
        file = open(path, "rb", buffering=PIECE)  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ArchiveError(f"cannot read {path}: a backup is a file, and it is read twice")
    assert isinstance(file, io.BufferedReader)
    return file
