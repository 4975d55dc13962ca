"""Schedules of projects start their pipelines when their time has come: once, on however many servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import trio

from gocdnext.errors import InvalidError
from gocdnext.materials import project_schedules
from gocdnext.projects import crons
from gocdnext.projects.crons import Wanted
from gocdnext.runs.service import RunService
from tests.api.world import World, pipeline, served

BERLIN = ZoneInfo("Europe/Berlin")
URL = "https://git.example.org/acme/billing"


async def apply(world: World, *names: str) -> dict[str, UUID]:
    """Pipelines with a git material each, of which one modification is known."""
    files = {f"{name}.yaml": pipeline(name, materials=[{"git": {"url": URL, "branch": name}}]) for name in names}
    await world.apply(files=files)
    rows = await world.db.fetch(
        "SELECT m.id, pl.name, pl.id AS pipeline FROM materials m JOIN pipelines pl ON pl.id = m.pipeline_id"
    )
    for row in rows:
        await world.db.execute(
            "INSERT INTO modifications (material_id, revision, branch, detected_at) VALUES ($1, $2, $3, $4)",
            row["id"], "4be1f0c9", row["name"], world.now,
        )  # fmt: skip
    return {row["name"]: row["pipeline"] for row in rows}


async def add(world: World, expression: str, *pipelines: UUID, name: str = "nightly", enabled: bool = True) -> UUID:
    cron_id = uuid4()
    wanted = Wanted(name, expression, pipelines, enabled)
    await crons.add(world.db, "billing", wanted, cron_id=cron_id, by=None, now=world.now, zone=BERLIN)
    return cron_id


async def look(world: World, at: str | datetime, runs: RunService | None = None) -> int:
    world.now = datetime.fromisoformat(f"{at}+00:00") if isinstance(at, str) else at
    return await project_schedules.fire(world.db, runs or world.runs, world.now, BERLIN)


async def test_every_pipeline_of_the_project_starts_with_its_newest_revision(world: World) -> None:
    made = await apply(world, "a", "b")
    files = {f"{n}.yaml": pipeline(n, materials=[{"git": {"url": URL, "branch": n}}]) for n in ("a", "b", "unseen")}
    await world.apply(files=files)
    schedule = await add(world, "0 * * * *")
    assert await look(world, world.now + timedelta(seconds=5)) == 0, "the first fire is counted from creation"
    assert await look(world, "2026-04-28T14:00:09") == 2, "of the third nothing is known"
    assert await look(world, "2026-04-28T14:00:19") == 0
    run = await world.db.fetchrow("SELECT * FROM runs WHERE pipeline_id = $1", made["a"])
    assert run is not None
    assert (run["cause"], run["triggered_by"], run["ref"]) == ("schedule", "cron:nightly", "a")
    detail = run["cause_detail"]
    assert (detail["schedule_id"], detail["schedule_name"], detail["expression"], detail["fired_at"]) == (
        str(schedule), "nightly", "0 * * * *", "2026-04-28T14:00:09+00:00",
    )  # fmt: skip
    (entry,) = run["revisions"].values()
    assert entry == {"revision": "4be1f0c9", "branch": "a"}


async def test_only_the_chosen_pipelines_and_none_that_are_gone(world: World) -> None:
    made = await apply(world, "a", "b")
    await add(world, "0 * * * *", made["b"])
    await world.db.execute("UPDATE project_crons SET pipeline_ids = pipeline_ids || $1::uuid", uuid4())
    assert await look(world, "2026-04-28T14:00:00") == 1
    assert await world.db.fetchval("SELECT pipeline_id FROM runs") == made["b"]


async def test_a_night_without_a_server_is_one_run_and_so_is_one_switched_off(world: World) -> None:
    await apply(world, "a")
    schedule = await add(world, "*/5 * * * *")
    assert await look(world, "2026-04-29T06:02:00") == 1
    assert await look(world, "2026-04-29T06:04:59") == 0
    for enabled in (False, True):
        wanted = Wanted("nightly", "*/5 * * * *", (), enabled)
        await crons.change(world.db, "billing", schedule, wanted, now=world.now, zone=BERLIN)
        assert await look(world, "2026-04-29T08:01:00") == int(enabled)
    assert await look(world, "2026-04-29T08:04:00") == 0
    other = Wanted("nightly", "0 6 * * *", (), None)
    assert await crons.change(world.db, "billing", schedule, other, now=world.now, zone=BERLIN)
    assert await look(world, "2026-04-29T23:00:00") == 0, "another expression counts from when it came"


@pytest.mark.parametrize(
    ("begin", "looks"),
    [
        ("2026-03-28T12:00", [("2026-03-29T00:59:59", 0), ("2026-03-29T01:00:00", 0), ("2026-03-30T00:30:00", 1)]),
        ("2026-10-24T12:00", [("2026-10-25T00:30:00", 1), ("2026-10-25T01:29:00", 0), ("2026-10-25T01:30:00", 1)]),
    ],
    ids=["02:30 does not exist", "02:30 comes twice"],
)
async def test_daylight_saving(world: World, begin: str, looks: list[tuple[str, int]]) -> None:
    await apply(world, "a")
    world.now = datetime.fromisoformat(f"{begin}+00:00")
    await add(world, "TZ=Europe/Berlin 30 2 * * *")
    for at, expected in looks:
        assert await look(world, at) == expected, at


async def test_a_clock_that_jumps_an_hour_fires_nothing_twice(world: World) -> None:
    await apply(world, "a")
    await add(world, "*/30 * * * *")
    assert await look(world, "2026-04-28T14:00:01") == 1
    assert await look(world, "2026-04-28T13:00:01") == 0, "back"
    assert await look(world, "2026-04-28T14:00:05") == 0, "and there once more"
    assert await look(world, "2026-04-28T15:00:05") == 1, "ahead: the two that were left out are one"


async def test_every_minute_for_a_hundred_pipelines_on_two_servers(tmp_path: Path, database_url: str) -> None:
    names = [f"p{number}" for number in range(100)]
    async with served(database_url, tmp_path) as world:
        await apply(world, *names)
        await add(world, "* * * * *")
        other = World(world.db, world.hub)
        for minute in (1, 2):
            at = datetime(2026, 4, 28, 15, minute, tzinfo=UTC)
            async with trio.open_nursery() as nursery:
                for runs in (world.runs, other.runs, world.runs):
                    nursery.start_soon(look, world, at, runs)
            rows = await world.db.fetch("SELECT count(*) AS runs FROM runs GROUP BY pipeline_id")
            assert [row["runs"] for row in rows] == [minute] * 100


@pytest.mark.parametrize(
    "expression", ["0 0 30 2 *", "0 0 30 2 * *", "* * * * 7", "TZ=Area", "TZ=No/Where * * * * *", "@every 0.5s", "x"]
)
async def test_what_can_never_fire_is_refused(world: World, expression: str) -> None:
    await apply(world, "a")
    with pytest.raises(InvalidError, match="invalid cron expression"):
        await add(world, expression)
