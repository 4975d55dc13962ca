"""What anybody may send to the agents' port: each ends at its own connection, and the server goes on."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trio_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.fleet import server, wire
from gocdnext.fleet.wire import MAX_MESSAGE, FrameMerger
from gocdnext.proto import agent_pb2 as pb
from tests.service.fleet.conftest import Agent, Fleet, aio, job_result, log_line
from tests.service.logs.seed import Seeded

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/gocdnext.v1.AgentService/Register"),
    (":authority", "x"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


@pytest.fixture(autouse=True)
async def still_serves(fleet: Fleet) -> AsyncIterator[None]:
    """Whatever a test did: afterwards the server takes an agent as if nothing had been."""
    yield
    async with fleet.ready_agent("afterwards") as client:
        await client.send(pb.AgentMessage(heartbeat=pb.Heartbeat()))
        assert (await client.receive()).HasField("pong")


@contextlib.asynccontextmanager
async def connected(fleet: Fleet) -> AsyncIterator[trio.SocketStream]:
    stream = await trio.open_tcp_stream("127.0.0.1", fleet.port)
    async with stream:
        yield stream


async def until_closed(stream: trio.SocketStream) -> bytes:
    """What the server says until it closes the connection."""
    received = b""
    with trio.fail_after(10):
        try:
            while data := await stream.receive_some(65536):
                received += data
        except trio.BrokenResourceError:
            pass
    return received


def frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        PREFACE + b"\xff" * 100,
        PREFACE + SETTINGS + frame(1, b"\xff\xff\xff\xff", flags=4, stream=1),
        PREFACE + SETTINGS + frame(1, b"\x00\x03\xff\xfe\xfd\x01a", flags=4, stream=1),
        PREFACE + SETTINGS + frame(0, b"data of no stream", stream=1),
        PREFACE + SETTINGS + frame(9, b"a continuation of nothing", stream=1),
        PREFACE + SETTINGS + frame(0, b"\xff", flags=8, stream=1),
        PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    ],
    ids=["http1", "tls", "garbage", "hpack", "non-ascii", "no-stream", "continuation", "padding", "oversized"],
)
async def test_garbage_ends_the_connection(fleet: Fleet, data: bytes) -> None:
    async with connected(fleet) as stream:
        await stream.send_all(data)
        await until_closed(stream)


async def test_unknown_frames_are_ignored(fleet: Fleet) -> None:
    async with connected(fleet) as stream:
        await stream.send_all(PREFACE + SETTINGS + frame(0xB7, b"from the future") + frame(6, b"pingpong"))
        received = b""
        with trio.fail_after(10):
            while frame(6, b"pingpong", flags=1) not in received:
                received += await stream.receive_some()


async def test_a_flood_of_headers_ends_the_connection(fleet: Fleet) -> None:
    block = (b"\x00\x01a\x7f\x81\x7f" + b"b" * 256) * 60
    async with connected(fleet) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await send_for_ever(stream, PREFACE + SETTINGS + frame(1, block, stream=1), frame(9, block, stream=1))


async def test_a_flood_of_pings_that_reads_nothing_ends_the_connection(fleet: Fleet) -> None:
    async with connected(fleet) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await send_for_ever(stream, PREFACE + SETTINGS, frame(6, b"pingpong") * 5000)


async def send_for_ever(stream: trio.SocketStream, first: bytes, again: bytes) -> None:
    with trio.fail_after(30):
        await stream.send_all(first)
        while True:
            await stream.send_all(again)


async def test_a_rapid_reset_ends_the_connection(fleet: Fleet) -> None:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    for number in range(wire.MAX_RESETS + 1):
        client.send_headers(1 + 2 * number, HEADERS)
        client.reset_stream(1 + 2 * number)
    async with connected(fleet) as stream:
        await stream.send_all(client.data_to_send())
        await until_closed(stream)


async def test_idle_connections_are_closed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PRESENCE_SECONDS", 0.01)
    monkeypatch.setattr(server, "IDLE_CONNECTION_SECONDS", 0.05)
    other = Fleet(fleet.db, fleet.blobs)
    async with trio.open_nursery() as nursery:
        other.port = await nursery.start(other.server.run, "127.0.0.1", 0)
        async with other.ready_agent() as client, connected(other) as stream:
            await until_closed(stream)
            await client.send(pb.AgentMessage(heartbeat=pb.Heartbeat()))
            assert (await client.receive()).HasField("pong")
        nursery.cancel_scope.cancel()


async def send_raw(client: Agent, *pieces: bytes) -> None:
    async def work() -> None:
        for piece in pieces:
            await client.stream._stream.send_data(piece)

    await aio(work)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\x00\x00\x00\x02\xff\xff", Status.INVALID_ARGUMENT),
        (b"\x01\x00\x00\x00\x02\x0a\x00", Status.UNIMPLEMENTED),
        (b"\x00" + struct.pack(">I", MAX_MESSAGE + 1), Status.RESOURCE_EXHAUSTED),
        (b"\x00\xff\xff\xff\xff", Status.RESOURCE_EXHAUSTED),
        # A line whose text is not UTF-8.
        (b"\x00\x00\x00\x00\x05\x1a\x03\x32\x01\xff", Status.INVALID_ARGUMENT),
    ],
    ids=["garbage", "compressed", "oversized", "huge", "utf8"],
)
async def test_a_bad_message_ends_the_stream(fleet: Fleet, data: bytes, status: Status) -> None:
    async with fleet.ready_agent() as client:
        await send_raw(client, data)
        with pytest.raises(GRPCError) as caught:
            await client.end()
        assert caught.value.status is status
    await fleet.until_status("runner", "offline")


async def test_a_message_cut_short(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        await send_raw(client, b"\x00\x00\x00\x00\x09half")
        await client.half_close()
        with pytest.raises(GRPCError) as caught:
            await client.end()
        assert caught.value.status is Status.INVALID_ARGUMENT


async def test_a_message_as_large_as_allowed_in_tiny_pieces(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        message = log_line(seeded, 1, "x" * (MAX_MESSAGE - 200)).SerializeToString()
        whole = b"\x00" + struct.pack(">I", len(message)) + message
        await send_raw(client, whole[:1], whole[1:3], whole[3:7], whole[7:])
        await client.half_close()
        await client.end()
    assert await fleet.db.fetchval("SELECT length(text) FROM log_lines") == 1024 * 1024 + 37


async def test_ten_thousand_unknown_messages(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        unknown = b"\x00\x00\x00\x00\x03\xa2\x06\x00"
        await send_raw(client, *[unknown * 1000] * 10)
        await client.send(log_line(seeded, 1), job_result(seeded))
        await client.half_close()
        await client.end()
    assert len(fleet.runs.reports) == 1


async def test_a_flood_of_lines_is_slowed_down_and_stored(fleet: Fleet) -> None:
    total = 30_000
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await send_raw(client, *_flood(seeded, total))
        await client.half_close()
        with trio.fail_after(60):
            await _end_slowly(client)
    row = await fleet.db.fetchrow("SELECT count(*), count(DISTINCT cursor), min(cursor), max(cursor) FROM log_lines")
    assert row is not None
    assert tuple(row) == (total, total, 1, total)
    assert fleet.metrics.dropped == {}


def _flood(seeded: Seeded, total: int) -> list[bytes]:
    pieces = []
    for start in range(1, total + 1, 500):
        messages = [log_line(seeded, seq, f"{seq:0100d}").SerializeToString() for seq in range(start, start + 500)]
        pieces.append(b"".join(b"\x00" + struct.pack(">I", len(message)) + message for message in messages))
    return pieces


async def _end_slowly(client: Agent) -> None:
    async def work() -> None:
        while await client.stream.recv_message() is not None:
            pass
        await client.stream.recv_trailing_metadata()

    await trio_asyncio.aio_as_trio(work)()


class Pieces:
    """The frame merger, fed as the network would."""

    def __init__(self) -> None:
        self.merger = FrameMerger()

    def feed(self, data: bytes, size: int) -> list[Any]:
        server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        events: list[Any] = []
        for start in range(0, len(data), size):
            events += server.receive_data(self.merger.feed(data[start : start + size]))
        return events


@pytest.mark.parametrize("size", [1, 7, 23, 24, 25, 1000, 10**6])
async def test_merged_frames_say_the_same(fleet: Fleet, size: int) -> None:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    for stream in (1, 3):
        client.send_headers(stream, HEADERS)
    for number in range(400):
        client.send_data(1, b"%03d" % number * 10)
        if number % 50 == 0:
            client.send_data(3, b"other", pad_length=3)
    client.send_data(1, b"", end_stream=True)
    data = client.data_to_send()
    events = Pieces().feed(data, size)
    plain = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False)).receive_data(data)

    def summary(events: list[Any]) -> Any:
        received = [event for event in events if isinstance(event, h2.events.DataReceived)]
        return (
            [b"".join(event.data for event in received if event.stream_id == stream) for stream in (1, 3)],
            sum(event.flow_controlled_length for event in received),
            [type(event) for event in events if not isinstance(event, h2.events.DataReceived)],
        )

    assert summary(events) == summary(plain)
    if size == 10**6:
        assert sum(isinstance(event, h2.events.DataReceived) for event in events) < 30
