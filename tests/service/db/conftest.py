"""Places for clusters."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.db.harness import Place, make_place


def _roomy(place: Path) -> bool:
    """Whether there is a file system with room for a few clusters, from which programs may be run."""
    if not place.is_dir():
        return False
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize > 2 * 2**30 and not status.f_flag & os.ST_NOEXEC


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A temporary directory that every user may pass (pytest's own is closed).

    In memory if there is plenty: these tests kill processes, never the machine, so what counts as written is the same.
    """
    directory = Path(tempfile.mkdtemp(prefix="gocdnext-db-", dir="/dev/shm" if _roomy(Path("/dev/shm")) else "/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(params=["root", "ordinary"])
def place(request: pytest.FixtureRequest, reachable: Path) -> Place:
    """A state directory to be, for root and for an ordinary user."""
    return make_place(reachable, request.param)


@pytest.fixture
def one_place(reachable: Path) -> Place:
    """A state directory to be, for an ordinary user."""
    return make_place(reachable, "ordinary")
