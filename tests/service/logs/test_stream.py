"""The event stream of a run: replay, live lines, the end, and readers that are slow or gone (contract-runs 3.4)."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import trio
import trio.testing

from gocdnext.logs import hub as hub_module
from gocdnext.logs import stream as stream_module
from gocdnext.logs.frames import CHUNK_BYTES, Chunk
from gocdnext.logs.stream import parse_last_event_id, stream
from tests.service.logs.conftest import Logs
from tests.service.logs.seed import Seeded, finish_run, running_run


class Reader:
    """A client of the stream that splits it into frames as the standard says: lines, blank line, fields."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""

    async def frame(self) -> dict[str, str]:
        """The next frame as its fields; a comment is the field with the empty name."""
        while b"\n\n" not in self._buffer:
            with trio.fail_after(10):
                self._buffer += await anext(self._pieces)
        raw, self._buffer = self._buffer.split(b"\n\n", 1)
        fields = {}
        for line in re.split(r"\r\n|\r|\n", raw.decode()):
            name, _, value = line.partition(":")
            assert name not in fields
            fields[name] = value.removeprefix(" ")
        return fields

    async def lines(self, count: int) -> list[tuple[int, Any]]:
        """The next `count` log events as (id, data), keepalives left out."""
        found: list[tuple[int, Any]] = []
        while len(found) < count:
            frame = await self.frame()
            if "" not in frame:
                assert frame["event"] == "log"
                found.append((int(frame["id"]), orjson.loads(frame["data"])))
        return found

    async def until_end(self) -> tuple[list[int], dict[str, str]]:
        """The cursors of all lines up to the `end` event, that event's data, and nothing after it."""
        cursors = []
        while (frame := await self.frame()).get("event") != "end":
            if "id" in frame:
                cursors.append(int(frame["id"]))
        with trio.fail_after(10), pytest.raises(StopAsyncIteration):
            await anext(self._pieces)
        assert self._buffer == b""
        return cursors, orjson.loads(frame["data"])


@contextlib.asynccontextmanager
async def reading(logs: Logs, run_id: UUID, last_event_id: int | None = None) -> AsyncIterator[Reader]:
    async with contextlib.aclosing(stream(logs.hub, logs.db, run_id, last_event_id, logs.shutdown)) as pieces:  # type: ignore[type-var]
        reader = Reader(pieces)
        assert await reader.frame() == {"": "ready"}
        yield reader


async def write(logs: Logs, seeded: Seeded, first: int, last: int, *, job: int = 0) -> None:
    async with logs.writer(seeded.agent_id) as writer:
        for seq in range(first, last + 1):
            writer.add(seeded.target(job), seq, f"line {seq}")
        await writer.flush()


async def test_a_line_has_the_form_of_the_contract(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    async with logs.writer(seeded.agent_id) as writer:
        writer.add(seeded.target(), 12, "linking", at=1_777_381_202_118_000, stream="stderr")
        await writer.flush()
    await logs.db.execute("UPDATE log_lines SET at = '2026-04-28T13:00:02.118Z'")
    pieces = stream(logs.hub, logs.db, seeded.run_id, 0, logs.shutdown)
    async with contextlib.aclosing(pieces):  # type: ignore[type-var]
        assert await anext(pieces) == b": ready\n\n"
        assert await anext(pieces) == (
            b'event: log\nid: 1\ndata: {"job_id":"%s","seq":12,"stream":"stderr","at":"2026-04-28T13:00:02.118Z",'
            b'"text":"linking"}\n\n' % str(seeded.job_ids[0]).encode()
        )


async def test_without_an_id_only_new_lines_come(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    await write(logs, seeded, 1, 5)
    async with reading(logs, seeded.run_id) as reader, trio.open_nursery() as nursery:
        nursery.start_soon(_write_when_waiting, logs, seeded, 6, 8)
        assert [cursor for cursor, _ in await reader.lines(3)] == [6, 7, 8]


async def _write_when_waiting(logs: Logs, seeded: Seeded, first: int, last: int) -> None:
    await _until_waiting(logs, seeded.run_id)
    await write(logs, seeded, first, last)


async def _until_waiting(logs: Logs, run_id: UUID) -> None:
    watch = logs.hub._watches[run_id]
    with trio.fail_after(10):
        while watch._waiting.statistics().tasks_waiting == 0:
            await trio.testing.wait_all_tasks_blocked(0.002)


async def test_reconnecting_readers_see_every_line_once_and_in_order(logs: Logs) -> None:
    seeded = await running_run(logs.db, jobs=2)
    total = 6000
    seen: list[int] = []

    async def produce() -> None:
        async with logs.writer(seeded.agent_id) as writer:
            for seq in range(1, total + 1):
                writer.add(seeded.target(seq % 2), seq, f"line {seq}")
                if seq % 500 == 0:
                    await writer.flush()
        await finish_run(logs.db, seeded)
        logs.hub.poke()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        for pause in (1, 700, 701, 1500):
            async with reading(logs, seeded.run_id, seen[-1] if seen else 0) as reader:
                seen += [cursor for cursor, _ in await reader.lines(pause)]
        async with reading(logs, seeded.run_id, seen[-1]) as reader:
            cursors, data = await reader.until_end()
            seen += cursors
    assert seen == list(range(1, total + 1))
    assert data == {"run_id": str(seeded.run_id), "status": "success"}


async def test_a_slow_reader_is_refilled_from_the_table(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "RING_BYTES", 100_000)
    seeded = await running_run(logs.db)
    await write(logs, seeded, 1, 1)
    async with reading(logs, seeded.run_id, 0) as reader:
        assert (await reader.lines(1))[0][0] == 1
        # It stands still in the middle of its stream while far more than the ring holds goes by.
        await write(logs, seeded, 2, 5000)
        watch = logs.hub._watches[seeded.run_id]
        assert watch.size <= 100_000 + 64 * 1024
        assert watch.chunk_after(1) is None
        await finish_run(logs.db, seeded)
        logs.hub.poke()
        cursors, _ = await reader.until_end()
    assert cursors == list(range(2, 5001))
    assert logs.hub._bytes == 0


async def test_a_reader_that_has_stopped_holds_little(logs: Logs) -> None:
    """128 kB each, whether the lines are many or long; the rest of what they will read is in the table."""
    seeded = await running_run(logs.db)
    await logs.db.execute(
        "INSERT INTO log_lines (job_run_id, run_id, cursor, seq, at, stream, text)"
        " SELECT $1, $2, n, n, now(), 'stdout', repeat('x', CASE WHEN n % 2000 < 1000 THEN 20 ELSE 4000 END)"
        " FROM generate_series(1, 4000) AS n",
        seeded.job_ids[0],
        seeded.run_id,
    )
    await logs.db.execute("INSERT INTO log_cursors (run_id, last) VALUES ($1, 4000)", seeded.run_id)
    readers = 20
    async with contextlib.AsyncExitStack() as stack:
        for after in (0, 1500):
            tracemalloc.start()
            try:
                for _ in range(readers):
                    pieces = stream(logs.hub, logs.db, seeded.run_id, after, logs.shutdown)
                    await stack.enter_async_context(contextlib.aclosing(pieces))  # type: ignore[type-var]
                    await anext(pieces)
                    await anext(pieces)
                held = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
            assert held / readers < 128 * 1024


def test_a_reader_that_is_a_little_behind_gets_many_lines_in_one_piece() -> None:
    watch = hub_module.Watch(uuid4(), lambda _: None)
    for cursor in range(1, 11):
        watch.append(cursor, cursor, [Chunk(cursor - 1, cursor, b"%d," % cursor)], 10**6)
    assert watch.chunk_after(9) == Chunk(9, 10, b"10,")
    assert watch.chunk_after(0) == Chunk(0, 10, b"1,2,3,4,5,6,7,8,9,10,")
    assert watch.chunk_after(10) is None
    large = b"x" * CHUNK_BYTES
    watch.append(11, 11, [Chunk(10, 11, large)], 10**6)
    watch.append(12, 12, [Chunk(11, 12, b"12,")], 10**6)
    assert watch.chunk_after(9) == Chunk(9, 10, b"10,")
    assert watch.chunk_after(10) == Chunk(10, 11, large)
    watch.append(20, 20, [Chunk(19, 20, b"20,")], 10**6)
    assert watch.chunk_after(12) is None


async def test_a_finished_run_is_ready_replayed_and_ended(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    await write(logs, seeded, 1, 3)
    await finish_run(logs.db, seeded, "failed")
    async with reading(logs, seeded.run_id) as reader:
        assert await reader.until_end() == ([], {"run_id": str(seeded.run_id), "status": "failed"})
    async with reading(logs, seeded.run_id, 1) as reader:
        assert (await reader.until_end())[0] == [2, 3]


async def test_a_cancelled_run_ends_when_its_last_job_has_ended(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    await logs.db.execute("UPDATE runs SET status = 'canceled' WHERE id = $1", seeded.run_id)
    async with reading(logs, seeded.run_id, 0) as reader, trio.open_nursery() as nursery:

        async def last_words() -> None:
            await _until_waiting(logs, seeded.run_id)
            await write(logs, seeded, 1, 2)
            await finish_run(logs.db, seeded, "canceled")

        nursery.start_soon(last_words)
        cursors, data = await reader.until_end()
    assert cursors == [1, 2]
    assert data["status"] == "canceled"


async def test_lines_stored_by_another_server_are_found_in_the_table(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    other = Logs(logs.db)
    async with reading(logs, seeded.run_id, 0) as reader, trio.open_nursery() as nursery:
        nursery.start_soon(_write_elsewhere, logs, other, seeded)
        assert [cursor for cursor, _ in await reader.lines(40)] == list(range(1, 41))


async def _write_elsewhere(logs: Logs, other: Logs, seeded: Seeded) -> None:
    await _until_waiting(logs, seeded.run_id)
    await write(other, seeded, 1, 40)


async def test_two_servers_writing_to_one_run_lose_nothing_for_their_readers(logs: Logs) -> None:
    seeded = await running_run(logs.db, jobs=2)
    other = Logs(logs.db)

    async def produce(where: Logs, job: int) -> None:
        for start in range(1, 1000, 100):
            await write(where, seeded, start, start + 99, job=job)

    async def finish_after() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce, logs, 0)
            nursery.start_soon(produce, other, 1)
        await finish_run(logs.db, seeded)

    async with reading(logs, seeded.run_id, 0) as reader, trio.open_nursery() as nursery:
        nursery.start_soon(finish_after)
        cursors, _ = await reader.until_end()
    assert cursors == list(range(1, 2001))


async def test_duplicates_in_a_batch_send_readers_to_the_table(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    await logs.db.execute("UPDATE runs SET started_at = started_at")
    async with reading(logs, seeded.run_id, 0) as reader, logs.writer(seeded.agent_id) as writer:
        for seqs in ((1, 2), (2, 3)):
            for seq in seqs:
                writer.add(seeded.target(), seq, f"line {seq}", at=None if seq != 2 else 0)
            await writer.flush()
        # Without a time of its own a line gets the server's, so the repeated one is another line.
        assert len(await reader.lines(4)) == 4
        now = (await logs.db.fetch("SELECT (extract(EPOCH FROM max(at)) * 1000000)::bigint AS at FROM log_lines"))[0]
        writer.add(seeded.target(), 9, "nine", at=now["at"])
        await writer.flush()
        writer.add(seeded.target(), 9, "nine again", at=now["at"])
        writer.add(seeded.target(), 10, "ten", at=now["at"])
        await writer.flush()
        assert [data["text"] for _, data in await reader.lines(2)] == ["nine", "ten"]


async def test_no_line_can_forge_a_frame(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    texts = [
        "a\n\nevent: end\ndata: {}\n\n",
        "b\r\rid: 99\r\r",
        "c\u2028d\u0085e",
        '"}\n\ndata: x',
        "<script>\x1b]8;;x\x07",
    ]
    async with reading(logs, seeded.run_id, 0) as reader, logs.writer(seeded.agent_id) as writer:
        for seq, text in enumerate(texts, 1):
            writer.add(seeded.target(), seq, text, stream="s\n\nevent: end")
        await writer.flush()
        found = await reader.lines(len(texts))
    assert [data["text"] for _, data in found] == texts
    assert {data["stream"] for _, data in found} == {"s\n\nevent: end"}


async def test_an_id_from_beyond_the_newest_line_hides_nothing(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    async with reading(logs, seeded.run_id, 10**15) as reader, trio.open_nursery() as nursery:
        nursery.start_soon(_write_when_waiting, logs, seeded, 1, 2)
        assert [cursor for cursor, _ in await reader.lines(2)] == [1, 2]


async def test_a_quiet_stream_is_kept_alive(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stream_module.KEEPALIVE_SECONDS == 15.0
    monkeypatch.setattr(stream_module, "KEEPALIVE_SECONDS", 0.01)
    seeded = await running_run(logs.db)
    async with reading(logs, seeded.run_id) as reader:
        for _ in range(3):
            assert await reader.frame() == {"": "keepalive"}


async def test_unknown_runs_end_at_once(logs: Logs) -> None:
    async with reading(logs, uuid4()) as reader:
        with pytest.raises(StopAsyncIteration):
            await reader.frame()


async def test_shutdown_ends_waiting_readers_at_once(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    ended = 0

    async def read() -> None:
        nonlocal ended
        async with reading(logs, seeded.run_id) as reader:
            with pytest.raises(StopAsyncIteration):
                await reader.frame()
        ended += 1

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(read)
            watching = 0
            while watching < 100:
                await trio.testing.wait_all_tasks_blocked(0.002)
                watch = logs.hub._watches.get(seeded.run_id)
                watching = watch._waiting.statistics().tasks_waiting if watch else 0
            logs.shutdown.set()
    assert ended == 100
    assert logs.hub.readers() == 0


@pytest.mark.parametrize(
    ("value", "cursor"),
    [(None, None), ("0", 0), ("12", 12), ("-1", None), ("", None), ("1.0", None), ("١", None), ("9" * 30, None)],
)
def test_last_event_id(value: str | None, cursor: int | None) -> None:
    assert parse_last_event_id(value) == cursor
