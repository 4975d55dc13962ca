"""Archives at their limits: a million entries and a gibibyte, in little memory. Run by `python3 build.py nightly`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tarfile
import textwrap
import zlib
from pathlib import Path

import pytest

from gocdnext.agent.archive import ArchiveError, unpack

pytestmark = pytest.mark.nightly
MIB = 2**20


def test_a_million_entries_and_one_more_are_too_many(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("directory")
    entry.type = tarfile.DIRTYPE
    deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    with open(tmp_path / "archive", "wb") as file:
        for _ in range(1000):
            file.write(deflate.compress(entry.tobuf() * 1000))
        file.write(deflate.compress(entry.tobuf() + bytes(1024)) + deflate.flush())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(tmp_path / "archive", "rb") as file, pytest.raises(ArchiveError, match="more than 1,000,000 entries"):
        unpack(file, str(tmp_path), "out")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


SCRIPT = """
    import resource, sys, trio
    from gocdnext.agent.parcels import Parcels

    async def main(folder, url):
        async with Parcels(folder, folder + ".beside") as parcels:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            parcel = await parcels.pack([await parcels.select("large")])
            await parcels.send(parcel, url)
            await parcels.fetch(url, parcel.packed.sha256, "out")
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

    trio.run(main, *sys.argv[1:])
"""


def test_a_gibibyte_up_and_down_in_little_memory(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    with open(folder / "large", "wb") as file:
        for number in range(1024):
            file.write(os.urandom(MIB) if number % 2 else b"text of a log\n" * (MIB // 14))
    # The store is a process of its own: its memory is not what is measured.
    serve = [sys.executable, "-m", "tests.agent.store", str(tmp_path / "blob")]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as store:
        try:
            assert store.stdout is not None
            url = store.stdout.readline().strip()
            move = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), url]
            done = subprocess.run(move, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
        finally:
            store.kill()
    assert int(done.stdout) < 64 * 1024, "KiB"
    with open(folder / "large", "rb") as one, open(folder / "out" / "large", "rb") as other:
        while piece := one.read(MIB):
            assert other.read(MIB) == piece
        assert not other.read(1)
