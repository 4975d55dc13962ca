"""Two servers on one database, and one of them killed at every point where it speaks with the database.

Killed means: nothing of what was to follow happens. A transaction that was under way is rolled back, effects after a
commit are lost, sessions are gone. The other server has only what is stored.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import trio_asyncio

from gocdnext.db.pool import Connection, Database, Work, open_pool
from tests.scenarios.world import World

JOB = {"script": ["x"]}
PIPELINES = {
    "p": {
        "stages": ["build", "ship"],
        "jobs": {
            "a": JOB | {"stage": "build"},
            "b": JOB | {"stage": "build", "needs": ["a"]},
            "gate": {"stage": "ship", "approval": {}},
            "deploy": JOB | {"stage": "ship", "needs": ["gate"], "deploy": {"environment": "prod"}},
        },
    },
    "q": {
        "materials": [{"upstream": {"pipeline": "p", "stage": "build", "status": "success"}}],
        "stages": ["test"],
        "concurrency": "serial",
        "jobs": {"c": JOB | {"stage": "test"}},
    },
}
ROUNDS = 30


class KilledError(Exception):
    """The server is no more."""


class MortalDatabase(Database):
    """A database whose user dies at the n-th point: before a statement, after one, or after a commit."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        super().__init__(pool)
        self.left: int | None = None

    def point(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KilledError

    async def aio_run(self, work: Work[Any]) -> Any:
        self.point()
        result = await super().aio_run(lambda conn: work(_Watched(conn, self)))  # type: ignore[arg-type]
        self.point()
        return result

    async def aio_transaction(self, work: Work[Any]) -> Any:
        self.point()
        result = await super().aio_transaction(lambda conn: work(_Watched(conn, self)))  # type: ignore[arg-type]
        self.point()
        return result


class _Watched:
    """A connection that is a point before and after each statement."""

    def __init__(self, conn: Connection, database: MortalDatabase) -> None:
        self._conn = conn
        self._database = database

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._conn, name)

        async def call(*args: Any) -> Any:
            self._database.point()
            result = await method(*args)
            self._database.point()
            return result

        return call


@dataclass
class Pair:
    """The mortal server and the other one."""

    mortal: World
    other: World
    database: MortalDatabase

    async def story(self, after: int) -> bool:
        """Everything from the trigger to the end, with the first server killed at a point; False if it was not."""
        await self.other.db.execute("TRUNCATE projects, agents CASCADE")
        await self.other.do_apply({"pipelines": PIPELINES})
        await self.mortal.do_agent_online({"agent": {"name": "m", "capacity": 1}})
        await self.other.do_agent_online({"agent": {"name": "o", "capacity": 1}})
        self.database.left = after
        alive = await self._lives(self.mortal.do_trigger({"pipeline": "p", "revision": "5ca1ab1e" * 5}))
        if not await self.other.run_names():
            # Whoever asked was told of no run and asks again.
            await self.other.do_trigger({"pipeline": "p", "revision": "5ca1ab1e" * 5})
        for _ in range(ROUNDS):
            if alive:
                alive = await self._lives(self.work(self.mortal))
            elif "m" not in self.other.agent_ids:
                # Its agent finds the other server and begins anew.
                self.other.agent_ids["m"] = self.mortal.agent_ids["m"]
                await self.other.do_agent_online({"agent": {"name": "m", "capacity": 1}})
            await self.work(self.other)
            if not await self.other.open_runs():
                break
        self.database.left = None
        return not alive

    async def _lives(self, doing: Any) -> bool:
        try:
            await doing
        except KilledError:
            return False
        return True

    async def work(self, world: World) -> None:
        """A tick of the scheduler, the results of this server's agents, an answer to a gate."""
        await world.settle()
        for name in await world.run_names():
            for job in (await world.run(name)).jobs:
                if job.status == "running" and world.fleet.holder(job.id) is not None:
                    await world.do_finish({"job": f"{name}/{job.label}", "result": "success"})
                elif job.status == "awaiting_approval":
                    await world.do_approve({"gate": f"{name}/{job.label}", "user": "ann"})


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[Pair]:
    connect = {"dsn": database_url}
    async with trio_asyncio.open_loop(), open_pool(connect, size=2) as first, open_pool(connect, size=2) as second:
        mortal = MortalDatabase(first._pool)
        yield Pair(World(mortal), World(second), mortal)


@pytest.mark.slow
async def test_a_server_killed_at_any_point_loses_nothing_and_does_nothing_twice(pair: Pair) -> None:
    for points in itertools.count():
        for world in (pair.mortal, pair.other):
            world.__init__(world.db)  # type: ignore[misc]  # a new process each time
        if not await pair.story(after=points):
            break
        await _compare(pair, f"killed at point {points}")
    await _compare(pair, "not killed")
    assert points > 40


async def _compare(pair: Pair, when: str) -> None:
    names = sorted(await pair.other.run_names())
    assert names == ["p#1", "q#1"], when
    for name in names:
        run = await pair.other.run(name)
        lost = [job for job in run.jobs if job.error]
        # A deployment that was under way with the killed server's agent is never repeated by itself.
        assert run.status == ("failed" if lost else "success"), (when, run)
        assert all(job.retry_unsafe and "before completion" in (job.error or "") for job in lost), (when, lost)
    sent = Counter((a.job_id, a.attempt) for world in (pair.mortal, pair.other) for a in world.fleet.sent)
    assert set(sent.values()) == {1}, f"{when}: an attempt was sent twice"
