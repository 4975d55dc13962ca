"""Word to systemd over a real datagram socket, with a real database behind the watchdog."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
import trio_asyncio

from gocdnext import systemd
from gocdnext.db.pool import open_pool


@pytest.fixture
def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trio.socket.SocketType]:
    """The receiving end of `$NOTIFY_SOCKET`."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        receiver.setblocking(False)
        yield trio.socket.from_stdlib_socket(receiver)


async def test_ready_is_one_datagram(notified: trio.socket.SocketType) -> None:
    systemd.notify("READY=1")
    assert await notified.recv(100) == b"READY=1"


async def test_an_abstract_socket_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0gocdnext-test-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", "@gocdnext-test-notify")
        systemd.notify("STOPPING=1")
        assert receiver.recv(100) == b"STOPPING=1"


async def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")


async def test_the_watchdog_beats_only_after_the_database_answered(
    notified: trio.socket.SocketType, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=1) as db, trio.open_nursery() as nursery:
        taken = trio.Event()

        async def hold(conn: object) -> None:
            taken.set()
            await asyncio.Event().wait()

        async with trio.open_nursery() as holder:
            holder.start_soon(db.run, hold)  # the only connection is busy: no round trip is possible
            await taken.wait()
            nursery.start_soon(systemd.watchdog, db)
            await trio.testing.wait_all_tasks_blocked(0.2)
            assert not select.select([notified], [], [], 0)[0], "a beat without a round trip"
            holder.cancel_scope.cancel()
        with trio.fail_after(10):
            for _ in range(3):
                assert await notified.recv(100) == b"WATCHDOG=1"
        nursery.cancel_scope.cancel()
