"""Revisions that arrive at materials start their runs once, whoever brings them and however often."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
import pytest
import trio

from gocdnext.materials.arrivals import Arrival, Started, start_runs
from gocdnext.runs.crowd import Create
from tests.api.world import World, pipeline, served

GIT = [{"git": {"url": "https://example.org/shop/cart"}}]
SHA = "ab" * 20


async def materials_of(world: World) -> list[tuple[UUID, UUID]]:
    rows = await world.db.fetch(
        "SELECT p.id, m.id FROM pipelines p JOIN materials m ON m.pipeline_id = p.id ORDER BY p.name"
    )
    return [(row[0], row[1]) for row in rows]


def arrival(of: tuple[UUID, UUID], revision: str = SHA, **more: Any) -> Arrival:
    facts: dict[str, Any] = {
        "branch": "main",
        "cause": "webhook",
        "triggered_by": "system:webhook",
        "detail": {},
        **more,
    }
    return Arrival(*of, revision, **facts)


async def arrive(world: World, *arrivals: Arrival, only_new: bool = False) -> Started:
    async def work(conn: asyncpg.Connection[asyncpg.Record], create: Create) -> Started:
        return await start_runs(conn, create, arrivals, world.now, only_new=only_new)

    return await world.runs.create_in(work)


async def test_a_revision_starts_each_pipeline_once(world: World) -> None:
    agent = await world.agent_online()
    files = {f"{name}.yaml": pipeline(name, materials=GIT) for name in ("a", "b")}
    await world.apply(files=files)
    both = [arrival(of) for of in await materials_of(world)]
    done = await arrive(world, *both, both[0])
    assert [run.counter for _, run in done.runs] == [1, 1]
    assert len(agent.jobs) == 2, "the first jobs are on the wire when the answer is there"
    again = await arrive(world, *both)
    assert not again.runs
    assert again.known == both
    assert await world.db.fetchval("SELECT count(*) FROM runs") == 2


async def test_two_runs_of_one_transaction_never_share_a_slot(world: World) -> None:
    agent = await world.agent_online()
    agent.capacity = 1
    await world.apply(files={f"{n}.yaml": pipeline(n, materials=GIT) for n in ("a", "b")})
    of = await materials_of(world)
    await arrive(world, *map(arrival, of))
    assert len(agent.jobs) == 1
    await arrive(world, *(arrival(one, "cd" * 20) for one in of))
    assert len(agent.jobs) == 1


async def test_a_hundred_at_once_make_one_run(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a", materials=GIT)})
    (of,) = await materials_of(world)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(arrive, world, arrival(of))
    assert await world.db.fetchval("SELECT count(*) FROM runs") == 1


async def test_two_servers_make_one_run(database_url: str, tmp_path: Any) -> None:
    async with served(database_url, tmp_path / "a") as one:
        await one.apply(files={"a.yaml": pipeline("a", materials=GIT)})
        (of,) = await materials_of(one)
        other = World(one.db, one.hub)
        async with trio.open_nursery() as nursery:
            for number in range(20):
                for world in (one, other):
                    nursery.start_soon(arrive, world, arrival(of, f"{number:040x}"))
        counters = await one.db.fetch("SELECT counter FROM runs ORDER BY counter")
        assert [row["counter"] for row in counters] == list(range(1, 21))


async def test_what_a_manual_start_saw_still_starts_its_push(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a", materials=GIT)})
    (of,) = await materials_of(world)
    await world.db.execute(
        "INSERT INTO modifications (material_id, revision, branch, detected_at) VALUES ($1, $2, 'main', $3)",
        of[1],
        SHA,
        world.now,
    )
    assert not (await arrive(world, arrival(of), only_new=True)).runs, "a poll knows it already"
    assert len((await arrive(world, arrival(of))).runs) == 1
    assert not (await arrive(world, arrival(of))).runs
    await world.db.execute("DELETE FROM runs")
    assert len((await arrive(world, arrival(of))).runs) == 1, "its run is missing"


async def test_a_request_and_a_push_of_one_commit_are_two_things(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a", materials=GIT)})
    (of,) = await materials_of(world)
    assert (await arrive(world, arrival(of, kind="pull_request", cause="pull_request", ref="pr:7"))).runs
    assert (await arrive(world, arrival(of))).runs, "a fork's branch named main does not hide the push"
    refs = await world.db.fetch("SELECT ref FROM runs ORDER BY counter")
    assert [row["ref"] for row in refs] == ["pr:7", "main"]


async def test_a_pipeline_without_stages_does_not_stop_the_others(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a", materials=GIT), "b.yaml": pipeline("b", materials=GIT)})
    first, second = await materials_of(world)
    await world.db.execute(
        "UPDATE pipeline_definitions SET definition = jsonb_set(definition, '{stages}', '[]') WHERE pipeline_id = $1",
        first[0],
    )
    done = await arrive(world, arrival(first), arrival(second))
    assert [found.pipeline_id for found, _ in done.refused] == [first[0]]
    assert [run.pipeline_id for _, run in done.runs] == [second[0]]


async def test_nothing_is_kept_when_the_caller_fails(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a", materials=GIT)})
    (of,) = await materials_of(world)

    async def work(conn: asyncpg.Connection[asyncpg.Record], create: Create) -> None:
        await start_runs(conn, create, [arrival(of)], world.now)
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        await world.runs.create_in(work)
    assert await world.db.fetchval("SELECT count(*) FROM modifications") == 0
    assert [run.counter for _, run in (await arrive(world, arrival(of))).runs] == [1]


async def test_a_material_that_is_gone_starts_nothing(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a", materials=GIT)})
    (of,) = await materials_of(world)
    await world.apply(files={"a.yaml": pipeline("a")})
    assert len((await arrive(world, arrival(of))).known) == 1


async def test_a_crowd_shares_transactions_and_each_gets_its_run(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a", materials=GIT)})
    (of,) = await materials_of(world)
    counters: list[int] = []
    transactions: set[int] = set()

    async def push(number: int) -> None:
        async def work(conn: asyncpg.Connection[asyncpg.Record], create: Create) -> Started:
            transactions.add(await conn.fetchval("SELECT pg_current_xact_id()::text::bigint"))
            if number % 10 == 9:
                raise RuntimeError("the disk is full")
            return await start_runs(conn, create, [arrival(of, f"{number:040x}")], world.now)

        if number % 10 == 9:
            with pytest.raises(RuntimeError):
                await world.runs.create_in(work, kind="a")
            return
        ((_, run),) = (await world.runs.create_in(work, kind="a")).runs
        counters.append(run.counter)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(push, number)
    assert sorted(counters) == list(range(1, 37))
    async with trio.open_nursery() as nursery:
        transactions.clear()
        for number in range(100, 109):
            nursery.start_soon(push, number)
    assert sorted(counters) == list(range(1, 46))
    assert len(transactions) <= 2, "at most the first one alone, and then those that came meanwhile"
    assert await world.db.fetchval("SELECT last_counter FROM pipelines") == 45


async def test_one_that_goes_away_does_not_keep_others_from_theirs(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a", materials=GIT)})
    (of,) = await materials_of(world)
    gone = trio.CancelScope()

    async def push(number: int) -> None:
        async def work(conn: asyncpg.Connection[asyncpg.Record], create: Create) -> Started:
            return await start_runs(conn, create, [arrival(of, f"{number:040x}")], world.now)

        with gone if number == 1 else trio.CancelScope():
            await world.runs.create_in(work, kind="a")

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(push, number)
        await trio.lowlevel.checkpoint()
        gone.cancel()
    found = await world.db.fetch("SELECT counter FROM runs ORDER BY counter")
    assert [row["counter"] for row in found] == list(range(1, len(found) + 1))
    assert len(found) in (2, 3)
