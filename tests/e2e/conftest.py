"""Fixtures of the end-to-end tests; what they are made of is in `harness`."""

from __future__ import annotations

import contextlib
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
def quick_dir(public_dir: Path) -> Iterator[Path]:
    """As `public_dir`, in memory when there is room: a database is made and thrown away for each test."""
    memory = Path("/dev/shm")
    with contextlib.suppress(OSError):
        status = os.statvfs(memory)
        if status.f_bavail * status.f_frsize > 2 * 1024**3 and not status.f_flag & os.ST_NOEXEC:
            folder = Path(tempfile.mkdtemp(prefix="gocdnext-e2e-", dir=memory))
            folder.chmod(0o755)
            yield folder
            shutil.rmtree(folder, ignore_errors=True)
            return
    yield public_dir


@pytest.fixture
def product(quick_dir: Path) -> Iterator[Product]:
    """A server from the checkout that is not started yet; everything that it or its agents started ends with it."""
    with product_in(quick_dir) as product:
        yield product
        if (quick_dir / "server.log").exists():
            print(product.log())  # shown when the test fails
