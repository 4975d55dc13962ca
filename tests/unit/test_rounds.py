"""Work that is shared by those who ask at the same time: nobody gets what is older than the asking, nobody hangs."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gocdnext.db.rounds import Rounds


class Work:
    """Counts its rounds; each ends when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.gates: list[trio.Event] = []
        self.fails = False

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.gates.append(trio.Event())
        await self.gates[-1].wait()
        if self.fails:
            raise LookupError(f"round {number}")
        return number


async def test_who_asks_during_a_round_shares_the_next_one() -> None:
    rounds, work, got = Rounds[str, int](), Work(), list[tuple[str, int]]()

    async def ask(name: str) -> None:
        got.append((name, await rounds.result("key", work)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "first")
        await wait_all_tasks_blocked()
        for name in ("second", "third", "fourth"):
            nursery.start_soon(ask, name)
        await wait_all_tasks_blocked()
        assert work.begun == 1
        work.gates[0].set()
        await wait_all_tasks_blocked()
        assert (got, work.begun) == ([("first", 1)], 2)
        nursery.start_soon(ask, "late")
        await wait_all_tasks_blocked()
        work.gates[1].set()
        await wait_all_tasks_blocked()
        assert sorted(got[1:]) == [("fourth", 2), ("second", 2), ("third", 2)]
        work.gates[2].set()
    assert got[-1] == ("late", 3)
    assert not rounds._gathering
    assert not rounds._under_way


async def test_keys_do_not_wait_for_each_other() -> None:
    rounds, work = Rounds[str, int](), Work()
    async with trio.open_nursery() as nursery:
        for key in ("a", "b"):
            nursery.start_soon(rounds.result, key, work)
        await wait_all_tasks_blocked()
        assert work.begun == 2
        for gate in work.gates:
            gate.set()


async def test_one_who_leaves_takes_nothing_with_him() -> None:
    """The one who does the work, and the one who would do it next, are cancelled while others wait for them."""
    rounds, work, got = Rounds[str, int](), Work(), list[int]()

    async def ask() -> None:
        got.append(await rounds.result("key", work))

    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in range(2)]

        async def leave(scope: trio.CancelScope) -> None:
            with scope:
                await rounds.result("key", work)

        for scope in scopes:
            nursery.start_soon(leave, scope)
            await wait_all_tasks_blocked()
        for _ in range(2):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        scopes[1].cancel()
        await wait_all_tasks_blocked()
        scopes[0].cancel()
        await wait_all_tasks_blocked()
        assert work.begun == 2
        work.gates[1].set()
    assert got == [2, 2]


async def test_an_error_is_everybodys() -> None:
    rounds, work, seen = Rounds[str, int](), Work(), list[str]()
    work.fails = True

    async def ask() -> None:
        with pytest.raises(LookupError) as caught:
            await rounds.result("key", work)
        seen.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        work.gates[0].set()
        await wait_all_tasks_blocked()
        work.gates[1].set()
    assert sorted(seen) == ["round 1", "round 2", "round 2"]
    work.fails = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds.result, "key", work)
        await wait_all_tasks_blocked()
        work.gates[2].set()
