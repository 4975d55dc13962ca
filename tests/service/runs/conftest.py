"""A world per test: the run service on a fresh database, scripted agents."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio_asyncio

from gocdnext.db.pool import open_pool
from tests.scenarios.world import World

ONE_JOB = {"p": {"stages": ["s"], "jobs": {"x": {"stage": "s", "script": ["x"]}}}}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """One pipeline `p` with one job `x`, one agent `any` with many slots."""
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=4) as db:
        made = World(db)
        await made.set_up({"pipelines": ONE_JOB})
        yield made
