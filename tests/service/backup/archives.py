"""Archives that were never a backup: whole ones to be damaged, and hostile ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gocdnext.backup import archive
from gocdnext.backup.archive import DATABASE, HEADER, MANIFEST, Header, Listed, Manifest

HEAD = Header(
    format=1,
    version="0.1.0",
    schema=1,
    postgres=18,
    pg_dump=18,
    schema_name="public",
    created_at="2026-01-02T03:04:05+00:00",
    database_bytes=1000,
    blobs="content",
)
BLOBS = {"run/a/job/b/c": b"one" * 1000, f"cache/{'d' * 36}/{'e' * 64}/{'f' * 36}": b""}


def nothing(_: str) -> None:
    """Who is told nothing."""


def make(path: Path, *, dump: bytes = b"PGDMP and so on", **changes: Any) -> Path:
    """A whole archive; `changes` are those of its header."""
    with archive.writing(path) as writer:
        writer.document(HEADER, msgspec.json.encode(msgspec.structs.replace(HEAD, **changes)))
        writer.document(DATABASE, dump)
        page = [Listed(key, len(content), "") for key, content in BLOBS.items()]
        writer.document(archive.page_name(1), b"".join(msgspec.json.encode(each) + b"\n" for each in page))
        for key, content in BLOBS.items():
            writer.document(archive.BLOBS + key, content)
        manifest = Manifest(
            members=dict(writer.members),
            chain=writer.chain,
            tables={},
            blobs=len(page),
            blob_bytes=sum(map(len, BLOBS.values())),
            missing=0,
            damaged=0,
            sealed_with=[],
        )
        writer.document(MANIFEST, msgspec.json.encode(manifest))
    return path


def tar_of(path: Path, members: Mapping[str, bytes | tarfile.TarInfo], *, header: bytes | None = None) -> Path:
    """A tar by another program, which begins as ours does."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in {HEADER: header or msgspec.json.encode(HEAD), **members}.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
