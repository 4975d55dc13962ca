"""The listener on a real PostgreSQL: heard, overflowed, cut off and armed again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import trio
import trio_asyncio
import triopg

from gocdnext.db import listener

TIMEOUT = 30


class Owner:
    """Somebody who listens, and counts gaps."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.gaps = 0
        self.news = trio.Event()

    def channels(self, *names: str) -> dict[str, Any]:
        return {name: lambda payload, name=name: self._hear(name, payload) for name in names}

    def _hear(self, name: str, payload: str) -> None:
        self.heard.append((name, payload))
        self._tell()

    def on_gap(self) -> None:
        self.gaps += 1
        self._tell()

    def _tell(self) -> None:
        self.news.set()
        self.news = trio.Event()

    async def until(self, done: Any) -> None:
        with trio.fail_after(TIMEOUT):
            while not done():
                await self.news.wait()


@pytest.fixture
async def loop() -> AsyncIterator[None]:
    async with trio_asyncio.open_loop():
        yield


async def notify(url: str, channel: str, payload: str) -> None:
    async with triopg.connect(url) as conn:
        await conn.execute("SELECT pg_notify($1, $2)", channel, payload)


async def cut(url: str) -> int:
    """Ends every other connection to the database."""
    async with triopg.connect(url) as conn:
        rows = await conn.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return len(rows)


async def test_each_channel_reaches_its_callback(loop: None, empty_database_url: str, nursery: trio.Nursery) -> None:
    owner = Owner()
    await nursery.start(listener.run, {"dsn": empty_database_url}, owner.channels("one", "two"), owner.on_gap)
    await notify(empty_database_url, "one", "a")
    await notify(empty_database_url, "two", "b")
    await owner.until(lambda: len(owner.heard) == 2)
    assert owner.heard == [("one", "a"), ("two", "b")]
    assert owner.gaps == 0


async def test_a_lost_connection_is_armed_again_and_its_owner_scans(
    loop: None, empty_database_url: str, nursery: trio.Nursery
) -> None:
    owner = Owner()
    await nursery.start(listener.run, {"dsn": empty_database_url}, owner.channels("one"), owner.on_gap)
    for number in (1, 2):
        assert await cut(empty_database_url) == 1
        await owner.until(lambda expected=number: owner.gaps == expected)
        await notify(empty_database_url, "one", str(number))
        await owner.until(lambda expected=number: len(owner.heard) == expected)
    assert owner.heard == [("one", "1"), ("one", "2")]


async def test_it_tries_until_the_database_is_back(
    loop: None, postgres_server: Any, empty_database_url: str, nursery: trio.Nursery
) -> None:
    owner = Owner()
    await nursery.start(listener.run, {"dsn": empty_database_url}, owner.channels("one"), owner.on_gap)
    name = empty_database_url.partition("@/")[2].partition("?")[0]
    async with triopg.connect(postgres_server.dsn()) as admin:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await _until_refused(admin, name)
        assert owner.gaps == 0
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await owner.until(lambda: owner.gaps == 1)
    await notify(empty_database_url, "one", "back")
    await owner.until(lambda: owner.heard == [("one", "back")])


async def _until_refused(admin: Any, name: str) -> None:
    """Returns when nobody is connected to the database any more."""
    with trio.fail_after(TIMEOUT):
        while await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name):
            await trio.lowlevel.checkpoint()


async def test_more_than_the_buffer_holds_is_a_gap() -> None:
    """trio-asyncio lets the callbacks keep up with one server, so the full buffer's mark is put in by hand."""
    owner = Owner()
    send, receive = trio.open_memory_channel[Any](3)
    async with send:
        for item in ("a", triopg.NOTIFY_OVERFLOW, "b"):
            await send.send(item)
    await listener.pass_on(receive, owner.channels("one")["one"], owner.on_gap)
    assert (owner.heard, owner.gaps) == ([("one", "a"), ("one", "b")], 1)


async def test_a_first_connection_that_fails_raises(loop: None, postgres_server: Any) -> None:
    owner = Owner()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await listener.run({"dsn": postgres_server.dsn("no_such")}, owner.channels("one"), owner.on_gap)


async def test_a_callback_that_raises_ends_the_listener(loop: None, empty_database_url: str) -> None:
    def broken(_payload: str) -> None:
        raise KeyError("broken")

    async def listen() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run, {"dsn": empty_database_url}, {"one": broken}, lambda: None)
            await notify(empty_database_url, "one", "x")
            with trio.fail_after(TIMEOUT):
                await trio.sleep_forever()

    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        await listen()
