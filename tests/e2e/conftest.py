"""Fixtures of the end-to-end tests; what they are made of is in `harness`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, Server, build


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
