"""The bounded queue: order, room, and the end."""

from __future__ import annotations

import trio
import trio.testing

from gocdnext.agent.outbox import BATCH, Outbox


async def test_a_full_outbox_blocks_its_writers_until_something_is_taken() -> None:
    outbox = Outbox(limit=10)
    outbox.put(b"x" * 10)
    passed = trio.Event()

    async def write() -> None:
        await outbox.room()
        outbox.put(b"y")
        passed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        assert not passed.is_set()
        assert await outbox.take() == b"x" * 10
        await passed.wait()
    assert await outbox.take() == b"y"


async def test_order_and_urgent_frames() -> None:
    outbox = Outbox()
    outbox.put(b"1")
    outbox.put(b"2")
    outbox.put_first(b"0")
    assert await outbox.take() == b"012"


async def test_a_batch_is_bounded() -> None:
    outbox = Outbox()
    for _ in range(3):
        outbox.put(b"x" * (BATCH // 2 + 1))
    assert [len(await outbox.take() or b"") for _ in range(3)] == [BATCH // 2 + 1] * 3


async def test_after_close_the_rest_is_taken_and_nothing_comes_in() -> None:
    outbox = Outbox(limit=1)
    outbox.put(b"1")
    outbox.close()
    outbox.put(b"2")
    await outbox.room()
    assert [await outbox.take(), await outbox.take()] == [b"1", None]
