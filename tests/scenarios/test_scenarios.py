"""Every scenario file of `tests/vectors/scenarios` (or of `--scenarios DIR`) on the real service and a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio_asyncio

from gocdnext.db.pool import open_pool
from tests.scenarios.pure import PureWorld
from tests.scenarios.world import World


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "scenario_file" in metafunc.fixturenames:
        pure = metafunc.function is test_scenario_on_the_pure_core
        left_out = metafunc.config.getoption("scenarios_pure") and not pure
        files = [] if left_out else sorted(Path(metafunc.config.getoption("scenarios")).glob("*.json"))
        metafunc.parametrize("scenario_file", files, ids=[file.stem for file in files])


async def test_scenario_on_the_pure_core(scenario_file: Path) -> None:
    await play(PureWorld(), json.loads(scenario_file.read_text()))


async def test_scenario(scenario_file: Path, database_url: str) -> None:
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=2) as db:
        await play(World(db), json.loads(scenario_file.read_text()))


async def play(world: World, scenario: Mapping[str, Any]) -> None:
    """Sets the world up and takes one step after the other."""
    await world.set_up(scenario)
    for step in scenario["steps"]:
        await world.step(step)
        await world.check()
