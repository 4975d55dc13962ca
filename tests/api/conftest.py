"""The served application, open and with authentication."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.world import World, served


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Authentication off."""
    async with served(database_url, tmp_path / "state") as world:
        yield world


@pytest.fixture
async def guarded(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Authentication on; the operator token is `world.TOKEN`."""
    async with served(database_url, tmp_path / "state", auth=True) as world:
        yield world
