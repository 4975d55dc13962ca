"""Fixtures of the end-to-end tests; what they are made of is in `harness`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, Server, build
from tests.e2e.product import Product, product_in


@pytest.fixture(scope="session")
def program() -> Path:
    """dist/gocdnext."""
    build("--with-postgres")
    return ROOT / "dist" / "gocdnext"


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can reach too (pytest's are closed to everybody else)."""
    folder = Path(tempfile.mkdtemp(prefix="gocdnext-e2e-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(program: Path, public_dir: Path) -> Iterator[Server]:
    """A server that is not started yet."""
    server = Server(program, public_dir)
    yield server
    server.kill()


@pytest.fixture
def quick_dir() -> Iterator[Path]:
    """As `public_dir`, in memory when there is room: a database is made and thrown away for each test."""
    with tempfile.TemporaryDirectory(prefix="gocdnext-e2e-", dir=_memory(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _memory() -> Path | None:
    """A file system in memory with 2 GiB to spare on which programs may be run, or None."""
    memory = Path("/dev/shm")
    try:
        status = os.statvfs(memory)
    except OSError:
        return None
    fits = status.f_bavail * status.f_frsize > 2 * 1024**3 and not status.f_flag & os.ST_NOEXEC
    return memory if fits and os.access(memory, os.W_OK) else None


@pytest.fixture
def product(quick_dir: Path) -> Iterator[Product]:
    """A server from the checkout that is not started yet; everything that it or its agents started ends with it."""
    with product_in(quick_dir) as product:
        yield product
        if (quick_dir / "server.log").exists():
            print(product.log())  # shown when the test fails
