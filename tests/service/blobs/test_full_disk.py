"""A disk of its own for artifacts, full to the last byte: uploads are refused, and what is there can be fetched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gocdnext.blobs.filesystem import FilesystemStore
from gocdnext.errors import NoRoomError

MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={4 * MIB}", "tmpfs", str(folder)]
    done = subprocess.run(mounting, capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
    if done is None or done.returncode != 0:
        why = "mounting needs root" if done is None else done.stderr.strip()
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * MIB


async def test_no_byte_is_left(disk: Path) -> None:
    store = FilesystemStore(disk, min_free=0)
    await store.put("run/1", pieces(2))
    with pytest.raises(NoRoomError, match="no room is left"):
        await store.put("run/2", pieces(3))
    assert [path.name for path in disk.rglob("*") if path.is_file()] == ["1"]
    assert (await store.put("run/3", pieces(1))).size == MIB


async def test_the_watermark_is_kept_while_the_disk_fills(disk: Path) -> None:
    store = FilesystemStore(disk, min_free=2 * MIB)
    with pytest.raises(NoRoomError, match="2 MiB free"):
        await store.put("run/1", pieces(3))
    with pytest.raises(NoRoomError, match="2 MiB free"):
        await store.put("run/1", pieces(0), expected=3 * MIB)
    await store.put("run/1", pieces(1))
    status = os.statvfs(disk)
    assert status.f_bavail * status.f_frsize >= 2 * MIB
