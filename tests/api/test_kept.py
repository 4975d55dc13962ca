"""Answers that are kept: never older than the request, whoever changed something, and read from the database once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
import trio

from gocdnext.api import kept, wire
from gocdnext.db.pool import Database
from tests.api.crowd import person
from tests.api.test_runs import get, log, one_run
from tests.api.world import World, partitioned


@contextmanager
def counted() -> Iterator[list[str]]:
    """Every statement that requests make."""
    statements: list[str] = []
    run = Database.run

    async def watched(self: Database, work: Any) -> Any:
        async def logged(conn: Any) -> Any:
            with conn.query_logger(lambda record: statements.append(record.query)):
                return await work(conn)

        return await run(self, logged)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "run", watched)
        yield statements


async def test_round_trips(world: World) -> None:
    """After a change, and one after which nothing has changed, which is one statement."""
    await partitioned(world.db)
    _, run_id = await one_run(world)
    agent = await world.agent_online()
    await world.finish_jobs(agent, run_id)
    for path, most in (
        ("/api/v1/projects", 2),
        ("/api/v1/projects/billing", 3),
        ("/api/v1/runs", 3),
        (f"/api/v1/runs/{run_id}?logs=200", 4),
    ):
        await get(world, path)
        await world.db.execute("UPDATE runs SET finished_at = finished_at + interval '1 second'")
        with counted() as statements:
            first = await get(world, path)
            assert len(statements) <= most, path
            statements.clear()
            assert await get(world, path) == first
            assert len(statements) == 1, path


async def test_what_anybody_changes_is_seen_at_once(world: World) -> None:
    """The database is changed behind the server's back, as another server does it."""
    await partitioned(world.db)
    _, run_id = await one_run(world)
    agent = await world.agent_online()
    await world.finish_jobs(agent, run_id)
    job = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][0]["id"]
    for number in range(1, 6):
        await log(world, run_id, job, f"line {number}")
        shown = await get(world, f"/api/v1/runs/{run_id}")
        assert shown["stages"][0]["jobs"][0]["logs_total"] == number
        await world.db.execute("UPDATE projects SET name = $1", f"name {number}")
        assert (await get(world, "/api/v1/projects"))["projects"][0]["name"] == f"name {number}"
        assert (await get(world, "/api/v1/projects/billing"))["project"]["name"] == f"name {number}"
        assert (await get(world, "/api/v1/runs"))["runs"][0]["project_name"] == f"name {number}"


async def test_an_open_run_is_read_each_time(world: World) -> None:
    """What it waits for depends on the agents that are connected, of which the database knows nothing."""
    _, run_id = await one_run(world)
    before = await get(world, f"/api/v1/runs/{run_id}")
    assert before["waiting"]
    with counted() as statements:
        await get(world, f"/api/v1/runs/{run_id}")
        await get(world, "/api/v1/runs")
        await get(world, "/api/v1/projects/billing")
        statements.clear()
        for path, least in ((f"/api/v1/runs/{run_id}", 2), ("/api/v1/runs", 2), ("/api/v1/projects/billing", 3)):
            await get(world, path)
            assert len(statements) >= least
            statements.clear()


async def test_readers_at_the_same_time_share_a_reading(world: World) -> None:
    await world.apply()
    with counted() as statements:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(get, world, "/api/v1/projects")
        assert sum("pipeline_count" in statement for statement in statements) < 10


async def test_an_answer_is_kept_for_a_while_and_in_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.apply()
    now = 0.0
    answers = kept.Kept(world.db, lambda: now)
    readings = 0

    async def read() -> kept.Fresh:
        nonlocal readings
        readings += 1
        return kept.Fresh(wire.Error(error="x" * 5000))

    assert world.app is not None
    async with world.app.app_context():
        for _ in range(3):
            await answers.answer("key", read)
        assert readings == 1
        now = kept.KEPT_FOR
        await answers.answer("key", read)
        assert readings == 2
        monkeypatch.setattr(kept, "MOST_BYTES", 20_000)
        for key in range(20):
            await answers.answer(key, read)
        assert 0 < len(answers._entries) <= 2
        assert answers._bytes == sum(kept._size(entry.rendered) for entry in answers._entries.values())
        monkeypatch.setattr(kept, "LARGEST", 4000)
        await answers.answer("large", read)
        assert "large" not in answers._entries


async def test_credentials_are_not_kept_for_others(guarded: World) -> None:
    """The same project for two roles is two answers: the key of what is kept says which one."""
    assert guarded.app is not None
    await guarded.db.execute(
        "INSERT INTO projects (id, slug, name, created_at, updated_at) VALUES ($1, 'p', 'P', now(), now())", UUID(int=1)
    )
    await guarded.db.execute(
        "INSERT INTO scm_sources (id, project_id, provider, url, clone_url, auth_ref, created_at, updated_at)"
        " VALUES ($1, $1, 'github', 'u', 'https://x/y', 'secret-ref', now(), now())",
        UUID(int=1),
    )
    path = "/api/v1/projects/p"
    for role, shown in (("maintainer", True), ("viewer", False), ("maintainer", True)):
        someone = await person(guarded, role)
        for _ in range(2):
            answer = await guarded.http.get(path, headers=someone.headers)
            assert ("auth_ref" in answer.json()["scm_source"]) is shown
