"""Where these tests write: a folder that PostgreSQL's user reaches too, which pytest's own need not be."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Takes the place of pytest's."""
    with tempfile.TemporaryDirectory(prefix="gocdnext-backup-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
