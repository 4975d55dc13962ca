"""Reads an archive from front to end and holds it against its own manifest. Changes nothing, and needs no database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gocdnext.backup import archive
from gocdnext.backup.archive import BLOBS, DATABASE, HEADER, KEYS, MANIFEST, Header, Listed, Manifest, Opened
from gocdnext.backup.errors import ArchiveError
from gocdnext.db import migrate, schema

DUMP_MAGIC = b"PGDMP"
"""How a bare dump of pg_dump begins (`db.dumps`)."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An archive that is whole and ours."""

    path: Path
    header: Header
    manifest: Manifest
    keys: bytes | None
    """Sealed; None when there are none in it."""
    bound_to: bytes
    """What they are sealed for."""
    size: int


def is_bare_dump(path: Path) -> bool:
    """Whether a file is what was written before a migration and not an archive. Raises ArchiveError."""
    with archive.opened_file(path) as file:
        return file.read(len(DUMP_MAGIC)) == DUMP_MAGIC


def check(path: Path, told: Callable[[str], None]) -> Checked:
    """Raises ArchiveError for what is cut off, damaged, not ours, or of a later program."""
    with archive.opened_file(path) as file:
        walk = _Walk(path)
        for opened in archive.reading(file):
            walk.take(opened)
        size = file.tell()
    told(f"the archive is whole: {size / 2**20:.0f} MiB")
    return walk.checked(size)


def require_known(header: Header) -> None:
    """Raises ArchiveError for a schema of a later program."""
    known = len(migrate.read_migrations(schema.migrations()))
    if header.schema > known:
        raise ArchiveError(
            f"this archive has schema version {header.schema} and this program knows versions up to {known}: gocdnext "
            f"{header.version} wrote it. Nothing was changed. Restore it with that version or a later one."
        )


class _Walk:
    """What was seen so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, archive.Member] = {}
        self._chain = hashlib.sha256()
        self._page: Iterator[Listed] = iter(())
        self._listed = 0
        self._different: list[str] = []
        self._bound_to = b""
        self._header: Header | None = None
        self._manifest: Manifest | None = None
        self._keys: bytes | None = None

    def take(self, opened: Opened) -> None:
        """Reads the next member. Raises ArchiveError."""
        name = opened.name
        if self._manifest is not None or name in self._seen or (name != HEADER and self._header is None):
            raise ArchiveError(f"this is not an archive of gocdnext: its {name} is not where it belongs")
        if name == HEADER:
            self._header = archive.header_of(opened)
            require_known(self._header)
            self._bound_to = opened.sha256.encode()
        elif name == KEYS:
            self._keys = opened.whole()
        elif name == MANIFEST:
            self._manifest = archive.decoded(opened)
        elif archive.is_page(name):
            page = archive.page_of(opened)
            self._listed += len(page)
            self._page = iter(page)
        elif name.startswith(BLOBS):
            self._blob(opened)
        for _ in opened.pieces():
            pass
        if name.startswith(BLOBS):
            archive.chained(self._chain, opened)
        else:
            self._seen[name] = archive.Member(opened.size, opened.sha256)

    def _blob(self, opened: Opened) -> None:
        """It has to be on the page before, behind those that have come; some of the page may be missing."""
        key = opened.name.removeprefix(BLOBS)
        listed = next((each for each in self._page if each.key == key), None)
        if listed is None:
            raise ArchiveError(f"this is not an archive of gocdnext: the blob {key[:64]} is not on its list")
        for _ in opened.pieces():
            pass
        if listed.sha256 not in ("", opened.sha256):
            self._different.append(key)

    def checked(self, size: int) -> Checked:
        """Holds everything against the manifest. Raises ArchiveError."""
        if self._header is None or self._manifest is None or DATABASE not in self._seen:
            raise ArchiveError(
                "the archive is cut off: it has no manifest, which is written last. Nothing was changed."
            )
        self._seen.pop(MANIFEST)
        for name, member in self._manifest.members.items():
            if self._seen.pop(name, None) != member:
                raise ArchiveError(f"the archive is damaged: its {name} is not what was written. Nothing was changed.")
        if len(self._different) > self._manifest.damaged:
            raise ArchiveError(f"the archive is damaged: the blob {self._different[0]} is not what was written.")
        if self._seen or self._manifest.chain != self._chain.hexdigest() or self._manifest.blobs != self._listed:
            raise ArchiveError("the archive is damaged: its blobs are not what was written. Nothing was changed.")
        return Checked(self._path, self._header, self._manifest, self._keys, self._bound_to, size)
