"""The bounded queue: order, room, what comes back after a break, and the end."""

from __future__ import annotations

import trio
import trio.testing

from gocdnext.agent.outbox import BATCH, Outbox


async def test_a_full_outbox_blocks_its_writers_until_something_is_taken() -> None:
    outbox = Outbox(limit=10)
    channel = outbox.channel()
    channel.put(b"x" * 10)
    passed = trio.Event()

    async def write() -> None:
        await channel.room()
        channel.put(b"y")
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
    channel = outbox.channel()
    channel.put(b"1")
    channel.put(b"2")
    outbox.put_first(b"0")
    assert await outbox.take() == b"012"


async def test_a_batch_is_bounded() -> None:
    outbox = Outbox()
    channel = outbox.channel()
    for _ in range(3):
        channel.put(b"x" * (BATCH // 2 + 1))
    assert [len(await outbox.take() or b"") for _ in range(3)] == [BATCH // 2 + 1] * 3


async def test_after_close_the_rest_is_taken_and_nothing_comes_in() -> None:
    outbox = Outbox(limit=1)
    channel = outbox.channel()
    channel.put(b"1")
    outbox.close()
    channel.put(b"2")
    await channel.room()
    assert [await outbox.take(), await outbox.take()] == [b"1", None]


def kept(limit: int = 1024) -> Outbox:
    """An outbox under a lease."""
    outbox = Outbox(kept_limit=limit)
    outbox.begin(keeps=True, batches=True)
    return outbox


async def take(outbox: Outbox) -> bytes:
    """What would go out now, without the mark behind it."""
    frames = await outbox.take()
    assert frames is not None
    return frames[: frames.rindex(b"\0\0\0\0")]


async def test_what_is_not_stored_comes_out_again_after_a_break_in_order() -> None:
    outbox = kept()
    channel = outbox.channel()
    for text in (b"a", b"b"):
        channel.put(text)
    assert await take(outbox) == b"ab"
    channel.put(b"c")
    assert await take(outbox) == b"c"
    outbox.stored(1)
    channel.put(b"d")
    outbox.put_first(b"a heartbeat of the old stream")
    outbox.rewind()
    outbox.put_first(b"!")
    assert await take(outbox) == b"!cd"
    outbox.stored(2)
    assert not outbox.empty
    outbox.stored(3)
    assert outbox.empty


async def test_what_is_sent_and_not_stored_counts_for_the_bound() -> None:
    outbox = kept(limit=4)
    channel = outbox.channel()
    channel.put(b"1234")
    await take(outbox)
    passed = trio.Event()

    async def write() -> None:
        await channel.room()
        passed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        assert not passed.is_set()
        outbox.stored(1)
        await passed.wait()


async def test_then_is_called_when_it_is_stored_and_without_a_lease_at_once() -> None:
    called: list[str] = []
    outbox = Outbox()
    outbox.channel().put(b"x", then=lambda: called.append("at once"))
    assert called == ["at once"]
    outbox = kept()
    outbox.channel().put(b"x", then=lambda: called.append("stored"))
    await take(outbox)
    assert called == ["at once"]
    outbox.stored(1)
    outbox.stored(1)
    assert called == ["at once", "stored"]


async def test_a_closed_channel_takes_back_what_is_in_there() -> None:
    outbox = kept(limit=4)
    mine, other = outbox.channel(), outbox.channel()
    for channel in (mine, other, mine):
        channel.put(b"m" if channel is mine else b"o")
    assert await take(outbox) == b"mom"
    mine.put(b"m")
    mine.close()
    mine.put(b"m")
    await mine.room()
    await outbox.room()
    other.put(b"p")
    outbox.rewind()
    assert await take(outbox) == b"op"
