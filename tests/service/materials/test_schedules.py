"""Cron materials start runs when their time has come: once, on however many servers, and once after a long night."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio

from gocdnext.materials import schedules
from gocdnext.runs.service import RunService
from gocdnext.sweepers import clocks
from tests.api.world import World, pipeline, served

BERLIN = ZoneInfo("Europe/Berlin")


def with_schedules(name: str, *expressions: str) -> str:
    return pipeline(name, materials=[{"cron": {"expression": text}} for text in expressions])


async def apply(world: World, *texts: str) -> None:
    await world.apply(files={f"{number}.yaml": text for number, text in enumerate(texts)})


async def look(world: World, at: datetime, runs: RunService | None = None) -> int:
    world.now = at
    return await schedules.fire(world.db, runs or world.runs, at, BERLIN)


async def revisions(world: World) -> list[datetime]:
    """The planned times of all runs, in the order in which they were made."""
    rows = await world.db.fetch("SELECT revisions FROM runs ORDER BY created_at, counter")
    entries: list[Any] = [entry for row in rows for entry in row["revisions"].values()]
    return [datetime.fromtimestamp(int(entry["revision"].removeprefix("cron:")), UTC) for entry in entries]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


async def test_the_first_fire_is_counted_from_creation(world: World) -> None:
    await apply(world, with_schedules("a", "0 * * * *"))
    assert await look(world, world.now + timedelta(seconds=5)) == 0
    assert await look(world, utc("2026-04-28T13:59:59")) == 0
    assert await look(world, utc("2026-04-28T14:00:09")) == 1
    run = await world.db.fetchrow("SELECT cause, triggered_by, ref, cause_detail, revisions FROM runs")
    assert run is not None
    assert (run["cause"], run["triggered_by"], run["ref"]) == ("cron", "cron", "cron")
    material = await world.db.fetchval("SELECT id FROM materials")
    assert run["cause_detail"] == {
        "provider": "cron",
        "delivery": "cron:1777384800",
        "material_id": str(material),
        "modification_id": await world.db.fetchval("SELECT id FROM modifications"),
        "expression": "0 * * * *",
        "fired_at": "2026-04-28T14:00:09+00:00",
    }
    assert run["revisions"] == {str(material): {"revision": "cron:1777384800", "branch": "cron"}}
    assert await look(world, utc("2026-04-28T14:00:19")) == 0


async def test_one_that_nobody_looked_at_for_an_hour_after_creation_fires(world: World) -> None:
    await apply(world, with_schedules("a", "30 13 * * *", "0 * * * *"))
    assert await look(world, utc("2026-04-28T14:10:00")) == 1, "15:00 in Berlin is not 13:30 there"
    assert await revisions(world) == [utc("2026-04-28T14:00:00")]


async def test_a_night_without_a_server_is_one_run(world: World) -> None:
    await apply(world, with_schedules("a", "*/5 * * * *", "@every 90m"), with_schedules("b", "30 23 * * *"))
    assert await look(world, world.now) == 0
    assert await look(world, utc("2026-04-29T06:02:00")) == 3, "one for each schedule"
    assert await look(world, utc("2026-04-29T06:04:59")) == 0
    assert await look(world, utc("2026-04-29T06:05:00")) == 1
    assert await look(world, utc("2026-04-29T06:59:59")) == 1
    # Every 90 minutes from 13:00: it has not begun anew.
    assert await look(world, utc("2026-04-29T07:00:00")) == 2


async def test_clocks_that_are_set_back_repeat_nothing(world: World) -> None:
    await apply(world, with_schedules("a", "*/10 * * * *"))
    await look(world, world.now)
    assert await look(world, utc("2026-04-28T14:10:00")) == 1
    for minute in range(10, 70, 10):
        assert await look(world, utc("2026-04-28T13:10:00") + timedelta(minutes=minute)) == 0
    assert await look(world, utc("2026-04-28T14:20:00")) == 1


async def test_summer_and_winter_time(world: World) -> None:
    world.now = utc("2026-10-24T12:00:00")
    await apply(world, with_schedules("a", "30 2 * * *"), with_schedules("b", "TZ=Asia/Tokyo 30 2 * * *"))
    at = world.now
    while at < utc("2026-10-26T12:00:00"):
        await look(world, at)
        at += timedelta(minutes=7)
    assert await revisions(world) == [
        utc("2026-10-24T17:30:00"),
        utc("2026-10-25T00:30:00"),
        utc("2026-10-25T01:30:00"),
        utc("2026-10-25T17:30:00"),
        utc("2026-10-26T01:30:00"),
    ]


async def test_two_servers_on_one_database(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path / "state") as world:
        texts = [with_schedules(f"p{number}", "* * * * *", "@every 1m") for number in range(10)]
        await apply(world, *texts)
        other = World(world.db, world.hub)
        await look(world, world.now)
        for minute in range(1, 6):
            at = world.now + timedelta(minutes=1)
            async with trio.open_nursery() as nursery:
                for runs in (world.runs, other.runs, world.runs, other.runs):
                    nursery.start_soon(look, world, at, runs)
            # A pass that met another one ended early: the next finds what is left.
            await look(world, at)
            assert await world.db.fetchval("SELECT count(*) FROM runs") == 20 * minute
        counters = await world.db.fetch(
            "SELECT array_agg(counter ORDER BY counter) AS c FROM runs GROUP BY pipeline_id"
        )
        assert [row["c"] for row in counters] == [list(range(1, 11))] * 10


@pytest.mark.parametrize("files", [{}, {"a.yaml": pipeline("a")}, {"a.yaml": with_schedules("a", "0 5 * * *")}])
async def test_a_schedule_that_is_gone_fires_no_more(world: World, files: dict[str, str]) -> None:
    await world.apply(files={"a.yaml": with_schedules("a", "* * * * *"), "b.yaml": pipeline("b")})
    await look(world, world.now)
    await world.apply(files={**files, "b.yaml": pipeline("b")})
    assert await look(world, world.now + timedelta(minutes=5)) == 0


async def test_applies_and_fires_at_once(world: World) -> None:
    """Neither waits for the other in a circle, and a schedule that goes in between makes no run without its material."""
    variants: Sequence[dict[str, str]] = [
        {f"{n}.yaml": with_schedules(n, "* * * * *") for n in "abcd"},
        {f"{n}.yaml": with_schedules(n, "*/2 * * * *") for n in "dcba"},
        {"a.yaml": with_schedules("a", "* * * * *")},
    ]
    await world.apply(files=variants[0])
    at = world.now
    for number in range(12):
        at += timedelta(minutes=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda files=variants[number % 3]: world.apply(files=files))  # type: ignore[misc]
            nursery.start_soon(look, world, at)
    at += timedelta(minutes=2)
    await look(world, at)
    assert await look(world, at + timedelta(minutes=2)) == 1


async def test_a_pipeline_without_stages_stops_nobody(world: World) -> None:
    await apply(world, with_schedules("a", "* * * * *"), with_schedules("b", "* * * * *"))
    await look(world, world.now)
    await world.db.execute(
        "UPDATE pipeline_definitions SET definition = jsonb_set(definition, '{stages}', '[]')"
        " WHERE pipeline_id = (SELECT id FROM pipelines WHERE name = 'a')"
    )
    at = world.now + timedelta(minutes=1)
    assert await look(world, at) == 1
    assert await look(world, at) == 0, "the refused one is not tried again and again"


async def test_an_expression_that_cannot_be_read_any_more(world: World) -> None:
    await apply(world, with_schedules("a", "* * * * *"), with_schedules("b", "0 0 * * *"))
    await world.db.execute(
        """UPDATE materials SET config = config || '{"expression": "TZ=Gone/Away * * * * *"}'
        WHERE config ->> 'expression' = '0 0 * * *'"""
    )
    await look(world, world.now)
    assert await look(world, world.now + timedelta(days=2)) == 1


async def test_the_sweeper_fires_at_once(world: World) -> None:
    await apply(world, with_schedules("a", "TZ=UTC 0 * * * *"))
    world.now += timedelta(hours=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clocks.run, world.db, world.runs, world.clock)
        with trio.fail_after(30):
            while not await world.db.fetchval("SELECT count(*) FROM runs"):  # noqa: ASYNC110 -- rows are no events
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "zone"), [("Europe/Berlin", BERLIN), (":Asia/Tokyo", ZoneInfo("Asia/Tokyo")), ("Nowhere/Atlantis", UTC)]
)
def test_the_servers_time_zone(monkeypatch: pytest.MonkeyPatch, name: str, zone: Any) -> None:
    monkeypatch.setenv("TZ", name)
    assert schedules.server_zone() == zone
