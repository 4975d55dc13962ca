"""Random scenarios: every run ends when agents keep working, and the core alone and the stored service agree."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gocdnext.db.pool import Database, open_pool
from tests.scenarios import random_steps
from tests.scenarios.pure import PureWorld
from tests.scenarios.random_steps import Story, kept_when_it_fails, pipelines
from tests.scenarios.test_scenarios import play
from tests.scenarios.world import World


async def tell(story: Story, data: st.DataObject) -> None:
    await story.begin(data.draw(pipelines()))
    for _ in range(data.draw(st.integers(1, 14))):
        await story.take(await story.random_step(data.draw))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_run_ends_when_agents_keep_working(data: st.DataObject) -> None:
    async def main() -> None:
        story = Story(PureWorld())
        with kept_when_it_fails(story, "never-ends"):
            await tell(story, data)
            await story.work_to_the_end()

    trio.run(main)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_core_alone_and_the_stored_service_agree(database_url: str, data: st.DataObject) -> None:
    async def main() -> None:
        story = Story(PureWorld())
        with kept_when_it_fails(story, "disagree"):
            await tell(story, data)
            await story.expect_as_it_is()
            async with emptied(database_url) as db:
                await play(World(db), story.scenario)

    trio.run(main)


@asynccontextmanager
async def emptied(database_url: str) -> AsyncIterator[Database]:
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=2) as db:
        await db.execute("TRUNCATE projects, agents CASCADE")
        yield db


async def test_a_failure_is_a_scenario_that_can_be_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_steps, "FAILURES", tmp_path)
    story = Story(PureWorld())
    await story.begin({"p": {"stages": ["s"], "jobs": {"x": {"stage": "s", "script": ["x"]}}}})
    await story.take({"do": "trigger", "pipeline": "p"})
    await story.take({"do": "approve", "gate": "p#1/x", "user": "ann"})
    await story.expect_as_it_is()
    with pytest.raises(AssertionError, match="on purpose"), kept_when_it_fails(story, "on-purpose"):
        raise AssertionError("on purpose")
    scenario = json.loads((tmp_path / "on-purpose.json").read_text())
    assert scenario["steps"][1]["expect_error"]
    await play(PureWorld(), scenario)
