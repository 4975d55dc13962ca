"""Calls of jobs through breaks of the session: waited for, made again, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from trio.testing import MockClock

from gocdnext.agent.calls import CallError
from gocdnext.agent.server_calls import PATIENCE, ServerCalls
from gocdnext.agent.wire import WireError
from gocdnext.proto import agent_pb2 as pb


class Line:
    """A session that answers as the test says: with answers, or errors in their place."""

    def __init__(self, session_id: str, *answers: Any) -> None:
        self.session_id = session_id
        self.answers = list(answers)
        self.sessions: list[str] = []

    async def call(self, method: str, request: Any) -> Any:
        self.sessions.append(request.session_id)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def refused(status: Status) -> WireError:
    """As the wire tells of an answer with this status."""
    error = WireError(f"{status.name}: no")
    error.__cause__ = GRPCError(status, "no")
    return error


FOUND = pb.RequestCacheGetResponse(found=True)


async def test_a_break_is_bridged(autojump_clock: MockClock) -> None:
    calls = ServerCalls()
    line = Line("one", WireError("broke"), refused(Status.UNAVAILABLE), FOUND)
    calls.use(line)
    assert (await calls.find_cache("r", "j", "k")).found
    assert line.sessions == ["one"] * 3


async def test_a_call_waits_for_the_next_session(autojump_clock: MockClock) -> None:
    calls = ServerCalls()
    old, new = Line("old"), Line("new", FOUND)

    async def come_back() -> None:
        await trio.sleep(PATIENCE - 30)
        calls.use(new)

    async def dying(method: str, request: Any) -> Any:
        calls.use(None)
        raise refused(Status.UNAUTHENTICATED)

    old.call = dying  # type: ignore[method-assign]
    calls.use(old)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_back)
        assert (await calls.find_cache("r", "j", "k")).found
    assert new.sessions == ["new"]


async def test_it_does_not_wait_for_ever(autojump_clock: MockClock) -> None:
    with pytest.raises(CallError, match="could not be reached within 90 s") as caught:
        await ServerCalls().artifact_tickets("r", "j", ["p"])
    assert caught.value.status == ""


async def test_a_server_that_never_answers(autojump_clock: MockClock) -> None:
    class Silent(Line):
        async def call(self, method: str, request: Any) -> Any:
            await trio.sleep_forever()

    calls = ServerCalls()
    calls.use(Silent("one"))
    with pytest.raises(CallError, match="did not answer MarkCacheReady within 30 s"):
        await calls.cache_ready("id", 1, "sha")


@pytest.mark.parametrize(
    "status", [Status.NOT_FOUND, Status.PERMISSION_DENIED, Status.INTERNAL, Status.UNAUTHENTICATED]
)
async def test_a_no_is_a_no(status: Status) -> None:
    calls = ServerCalls()
    line = Line("one", refused(status))
    calls.use(line)
    with pytest.raises(CallError, match=f"{status.name}: no") as caught:
        await calls.offer_cache("r", "j", "k")
    assert caught.value.status == status.name
    assert len(line.sessions) == 1
