"""The server stops in time, whoever is connected (anchors 0, 1): idle readers, stalled readers, half-sent requests."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import trio

from tests.api.world import World, partitioned, served

READERS = 90
STALLED = 10
LIMIT = 5.0
"""Seconds from the shutdown event to the end of everything, database pool included."""


async def open_stream(
    world: World, run_id: str, *, receive_buffer: int | None = None, last: int | None = None
) -> trio.SocketStream:
    """A reader that has sent its request."""
    sock = trio.socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
    await sock.connect(("127.0.0.1", world.port))
    header = "" if last is None else f"Last-Event-ID: {last}\r\n"
    stream = trio.SocketStream(sock)
    await stream.send_all(f"GET /api/v1/runs/{run_id}/logs/stream HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
    return stream


async def test_readers_do_not_keep_the_server(database_url: str, tmp_path: Path) -> None:
    ended: list[bytes] = []

    async def read(stream: trio.SocketStream, ready: trio.Event) -> None:
        got = b""
        try:
            async with stream:
                async for piece in stream:
                    got += piece
                    if b": ready" in got:
                        ready.set()
        except trio.BrokenResourceError:
            got += b"(reset)"
        ended.append(got)

    late: list[bool] = []

    async def let_go_when_late(shutdown: trio.Event, stopped: trio.Event, stalled: list[trio.SocketStream]) -> None:
        await shutdown.wait()
        with trio.move_on_after(LIMIT):
            await stopped.wait()
            return
        # The server hangs on these; without them it ends, and the test can say so.
        late.append(True)
        for stream in stalled:
            await stream.aclose()

    async with contextlib.AsyncExitStack() as clients, trio.open_nursery() as nursery:
        stopped = trio.Event()
        async with served(database_url, tmp_path) as world:
            run_id = await _run_with_a_long_log(world)
            events = [trio.Event() for _ in range(READERS)]
            for event in events:
                nursery.start_soon(read, await open_stream(world, run_id), event)
            stalled = [await open_stream(world, run_id, receive_buffer=4096, last=0) for _ in range(STALLED)]
            half = await trio.open_tcp_stream("127.0.0.1", world.port)
            await half.send_all(b"POST /api/v1/projects/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
            for stream in (*stalled, half):
                clients.push_async_exit(stream)
            with trio.fail_after(30):
                for event in events:
                    await event.wait()
                for stream in stalled:
                    await trio.lowlevel.wait_readable(stream.socket.fileno())
            nursery.start_soon(let_go_when_late, world.shutdown, stopped, stalled)
        stopped.set()
    assert not late, f"the server was still there {LIMIT} s after the shutdown event"
    assert len(ended) == READERS
    # Every reader that reads was told properly: the last chunk of the body is there, the connection was not just cut.
    assert all(got.endswith(b"0\r\n\r\n") for got in ended)


async def _run_with_a_long_log(world: World) -> str:
    """A queued run with 12 MB of log, more than a connection's buffers hold."""
    await partitioned(world.db)
    made = await world.apply()
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    await world.db.execute(
        "INSERT INTO log_lines (job_run_id, run_id, cursor, seq, at, stream, text)"
        " SELECT (SELECT id FROM job_runs WHERE run_id = $1 LIMIT 1), $1, n, n, $2, 'stdout', repeat('x', 4000)"
        " FROM generate_series(1, 3000) AS n",
        UUID(run_id),
        datetime.now(UTC),
    )
    await world.db.execute("INSERT INTO log_cursors (run_id, last) VALUES ($1, 3000)", UUID(run_id))
    return run_id
