"""Every scenario file of `tests/vectors/scenarios` (or of `--scenarios DIR`) on the real service and a real PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio_asyncio

from gocdnext.db.pool import open_pool
from tests.scenarios.world import World


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "scenario_file" in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption("scenarios"))
        files = sorted(folder.glob("s*.json"))
        metafunc.parametrize("scenario_file", files, ids=[file.stem for file in files])


async def test_scenario(scenario_file: Path, database_url: str) -> None:
    scenario = json.loads(scenario_file.read_text())
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=2) as db:
        world = World(db)
        await world.set_up(scenario)
        for step in scenario["steps"]:
            await world.step(step)
