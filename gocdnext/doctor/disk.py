"""The disks that a server writes to: room, inodes, and how long it takes until something is really on them."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gocdnext.doctor.findings import Finding, fail, ok, skipped, warn
from gocdnext.doctor.ground import Ground, existing

GIB = 1024**3
SPACE_NEEDED = GIB
"""A first start takes about 150 MB, logs and blobs the rest."""
SPACE_WANTED = 5 * GIB
INODES_WANTED = 0.05
"""Part of all inodes that should be free."""
SYNCS = 40
SYNC_BUDGET = 2.0
"""Seconds after which a slow disk has said enough."""
SYNC_BLOCK = 8192
"""Bytes: a page of PostgreSQL's write-ahead log."""
SLOW_SYNC, UNUSABLE_SYNC = 0.010, 0.100
"""Seconds of a usual fsync. Every step of a run is a commit, and every commit waits for one."""


def places(ground: Ground) -> list[tuple[str, Path]]:
    """What is written to, each file system once."""
    found: dict[int, tuple[str, Path]] = {}
    for name, path in (("state", ground.state), ("artifacts", ground.settings.artifacts_root)):
        found.setdefault(existing(path).stat().st_dev, (name, path))
    return list(found.values())


def space(ground: Ground) -> Iterator[Finding]:
    """Free room and free inodes of each disk."""
    for what, path in places(ground):
        disk = os.statvfs(existing(path))
        free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        said = f"{free / GIB:.1f} of {whole / GIB:.1f} GiB free ({what}: {path})"
        advice = f"Free space on the disk of {path}: the database stops writing when it is full."
        if free < SPACE_NEEDED:
            yield fail("disk space", said, advice)
        elif free < SPACE_WANTED:
            yield warn("disk space", said, f"{advice} Keep less: GOCDNEXT_ARTIFACTS_KEEP_LAST, GOCDNEXT_LOG_RETENTION.")
        else:
            yield ok("disk space", said)
        yield _inodes(what, path, disk)


def _inodes(what: str, path: Path, disk: os.statvfs_result) -> Finding:
    if not disk.f_files:  # btrfs and others have no such limit
        return ok("inodes", f"as many as there is room for ({what}: {path})")
    left = disk.f_favail / disk.f_files
    said = f"{left:.0%} free ({what}: {path})"
    advice = f"Many small files fill the disk of {path} although there is room: find them with `du --inodes -x`."
    if left < INODES_WANTED / 5:
        return fail("inodes", said, advice)
    return warn("inodes", said, advice) if left < INODES_WANTED else ok("inodes", said)


def fsync(ground: Ground) -> Finding:
    """A real measurement on the disk of the database, in a file without a name that is gone when this ends."""
    place = next((each for each in (ground.state / "pg", ground.state) if os.access(each, os.W_OK)), None)
    place = place or existing(ground.state)
    try:
        times = _measure(place)
    except OSError as error:
        return skipped("fsync", f"cannot be measured in {place} ({error.strerror})")
    usual, worst = statistics.median(times), max(times)
    said = f"{usual * 1000:.2f} ms, slowest of {len(times)} {worst * 1000:.1f} ms ({place})"
    advice = "Put the state directory on a local SSD, not on a network or spinning disk: --state, GOCDNEXT_STATE_DIR."
    if usual > UNUSABLE_SYNC:
        return fail("fsync", said, advice)
    return warn("fsync", said, advice) if usual > SLOW_SYNC else ok("fsync", said)


def _measure(place: Path) -> list[float]:
    """Seconds of each write that was waited for."""
    times: list[float] = []
    with tempfile.TemporaryFile(dir=place) as file:
        descriptor, block = file.fileno(), os.urandom(SYNC_BLOCK)
        while len(times) < SYNCS and sum(times) < SYNC_BUDGET:
            began = time.perf_counter()
            os.pwrite(descriptor, block, len(times) * SYNC_BLOCK)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - began)
    return times
