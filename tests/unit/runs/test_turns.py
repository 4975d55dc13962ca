"""Turns: whichever side of the process a change is made on, one that is under way is not decided around."""

from __future__ import annotations

from uuid import uuid4

import trio
import trio.testing

from gocdnext.runs.turns import Turns


async def test_a_turn_that_was_free_is_waited_for_and_given_to_nobody_else() -> None:
    turns, run_id, order = Turns(), uuid4(), []

    async def wait() -> None:
        async with turns.of(run_id):
            with turns.if_free(run_id) as again:
                assert not again
            order.append("waited")

    async with trio.open_nursery() as nursery:
        with turns.if_free(run_id) as mine, turns.if_free(run_id) as second, turns.if_free(uuid4()) as other:
            assert (mine, second, other) == (True, False, True)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            order.append("under way")
    assert order == ["under way", "waited"]
    with turns.if_free(run_id) as mine:
        assert mine, "nothing is left of a turn"
