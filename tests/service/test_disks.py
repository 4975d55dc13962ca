"""A disk that fills: what stops first, what is said of it, and that it goes on by itself. A real one, of 16 MiB."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gocdnext.disks import Disks, Level, Place
from gocdnext.metrics import Metrics

MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={16 * MIB}", "tmpfs", str(folder)]
    done = subprocess.run(mounting, capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
    if done is None or done.returncode != 0:
        why = "mounting needs root" if done is None else done.stderr.strip()
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def leave(disk: Path, free: int) -> None:
    """Fills the disk until so many MiB are free."""
    (disk / "filler").write_bytes(bytes((16 - free) * MIB))


async def test_what_stops_while_a_disk_fills_and_goes_on_again(disk: Path) -> None:
    freed: list[None] = []
    place = Place("state", disk, uploads=12 * MIB, jobs=8 * MIB, database=True)
    disks = Disks([place], lambda: freed.append(None))
    metrics = Metrics()
    metrics.watch_disks(lambda: disks.readings)
    seen = []
    # 9 MiB after less than 8 are not enough: a job that ends must not let another in at once.
    for free in (13, 11, 7, 3, 5, 9, 11, 13):
        leave(disk, free)
        await disks.look()
        seen.append(disks.level)
        assert bool(disks.holds_jobs()) is (disks.level >= Level.NO_JOBS)
        assert disks.holds_lines() is (disks.level is Level.NO_LINES)
        assert metrics.registry.get_sample_value("gocdnext_disk_level", {"disk": "state"}) == disks.level
        assert metrics.registry.get_sample_value("gocdnext_disk_free_bytes", {"disk": "state"}) == free * MIB
    assert seen == [
        Level.OK,
        Level.NO_UPLOADS,
        Level.NO_JOBS,
        Level.NO_LINES,
        Level.NO_JOBS,
        Level.NO_JOBS,
        Level.NO_UPLOADS,
        Level.OK,
    ]
    assert len(freed) == 1, "once, when jobs may start again"


async def test_what_is_said(disk: Path) -> None:
    disks = Disks([Place("artifacts", disk, uploads=12 * MIB, jobs=8 * MIB)])
    leave(disk, 10)
    await disks.look()
    assert disks.worst is not None
    assert disks.worst.sentence == (
        f"10 MiB are free on the disk of {disk}: uploads are refused below 12 MiB (GOCDNEXT_ARTIFACTS_MIN_FREE_MB). "
        "Make room there."
    )
    leave(disk, 1)
    await disks.look()
    assert disks.level is Level.NO_JOBS, "the database is elsewhere: lines are stored"
    assert "less than 8 MiB are free" in disks.holds_jobs()
    assert str(disk) not in disks.holds_jobs(), "everybody who may look at a run reads this"


async def test_a_place_that_cannot_be_looked_at_is_left_out(tmp_path: Path) -> None:
    disks = Disks([Place("artifacts", tmp_path / "nowhere", jobs=2**60), Place("state", tmp_path, jobs=0)])
    await disks.look()
    assert [reading.place.name for reading in disks.readings] == ["state"]
    assert disks.level is Level.OK
