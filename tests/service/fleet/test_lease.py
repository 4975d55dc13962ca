"""Leases and log batches on the server's side: who may come back, to what, and what counts of what they send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
import trio.testing
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.auth.agent_tokens import token_hash
from gocdnext.db.pool import Database
from gocdnext.logs.batches import MAX_LINES
from gocdnext.proto import agent_pb2 as pb
from tests.service.fleet.conftest import Agent, Fleet, assignment, job_result, log_batch, mark
from tests.service.logs.seed import Seeded

HEARTBEAT = pb.AgentMessage(heartbeat=pb.Heartbeat())


async def stored(fleet: Fleet, seeded: Seeded) -> list[tuple[int, str]]:
    rows = await fleet.db.fetch(
        "SELECT seq, text FROM log_lines WHERE run_id = $1 ORDER BY job_run_id, seq", seeded.run_id
    )
    return [(row["seq"], row["text"]) for row in rows]


async def word(client: Agent, number: int) -> None:
    """Waits until the server says that this mark is stored."""
    while (await client.receive()).stored.number != number:
        pass


async def away(fleet: Fleet, client: Agent) -> None:
    """Breaks the connection and waits until the server has noticed."""
    client.channel.close()
    await fleet.until_status(client.name, "offline")


# ---- what is agreed on -----------------------------------------------------------------------------


async def test_an_agent_of_the_field_is_offered_nothing(fleet: Fleet) -> None:
    async with fleet.agent() as client:
        answer = await client.register()
        assert answer == pb.RegisterResponse(session_id=answer.session_id, heartbeat_seconds=30)
        assert (await fleet.agent_row("runner"))["lease_hash"] == ""


async def test_what_our_own_agents_are_granted(fleet: Fleet) -> None:
    async with fleet.agent() as client:
        answer = await client.register(log_batches=True)
        assert answer.log_batches
        assert not answer.HasField("lease")
        answer = await client.register_leased()
        assert (answer.heartbeat_seconds, answer.lease.seconds, answer.lease.resumed) == (10, 75, False)
        row = await fleet.agent_row("runner")
        assert (row["lease_hash"], row["lease_seconds"]) == (token_hash(answer.lease.secret), 75)
        assert len(answer.lease.secret) > 40
        assert (await client.register_leased()).lease.secret != answer.lease.secret


async def test_a_server_without_leases_gives_none(fleet: Fleet, db: Database) -> None:
    other = Fleet(db, fleet.blobs, lease_seconds=0)
    async with trio.open_nursery() as nursery:
        other.port = await nursery.start(other.server.run, "127.0.0.1", 0)
        async with other.agent() as client:
            answer = await client.register_leased()
            assert answer.log_batches
            assert not answer.HasField("lease")
        nursery.cancel_scope.cancel()


# ---- coming back -----------------------------------------------------------------------------------


async def test_an_agent_comes_back_to_its_job(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        await client.send(log_batch(seeded, 1, ["a", "b"]), mark(1))
        await word(client, 1)
        await away(fleet, client)
        fleet.runs.reclaimed.clear()
    async with fleet.agent() as again:
        answer = await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)], capacity=2)
        assert answer.lease.resumed
        assert answer.lease.secret == client.lease.secret
        assert [kept.job_id for kept in answer.lease.kept] == [str(seeded.job_ids[0])]
        await again.connect()
        assert fleet.registry.slots()[0].free == 1
        await again.send(log_batch(seeded, 3, ["c"]), job_result(seeded), mark(2))
        await word(again, 2)
    assert await stored(fleet, seeded) == [(1, "a"), (2, "b"), (3, "c")]
    assert [ok for _, ok in fleet.runs.reports] == [True]
    assert fleet.runs.reclaimed == fleet.runs.taken_back == []


async def test_an_agent_comes_back_to_another_server(fleet: Fleet, db: Database) -> None:
    other = Fleet(db, fleet.blobs)
    async with trio.open_nursery() as nursery, fleet.leased_agent() as client:
        other.port = await nursery.start(other.server.run, "127.0.0.1", 0)
        seeded = await fleet.running(client)
        await client.send(log_batch(seeded, 1, ["a"]), mark(1))
        await word(client, 1)
        # The first server still believes in its session.
        async with other.agent() as again:
            assert (await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])).lease.resumed
            await again.connect()
            await again.send(log_batch(seeded, 1, ["a", "b"]), job_result(seeded), mark(1))
            await word(again, 1)
            await fleet.server.keep_presence()
            with pytest.raises(GRPCError) as caught:
                await client.end()
            assert caught.value.status is Status.ABORTED
            assert (await fleet.agent_row("runner"))["status"] == "online"
        nursery.cancel_scope.cancel()
    assert await stored(fleet, seeded) == [(1, "a"), (2, "b")]
    assert [ok for _, ok in other.runs.reports] == [True]


async def test_what_it_does_not_have_is_given_to_others_and_what_it_makes_up_is_not_its_own(fleet: Fleet) -> None:
    async with fleet.leased_agent("thief") as thief, fleet.leased_agent() as client:
        seeded = await fleet.running(client, jobs=2)
        foreign = await fleet.running(thief)
        await away(fleet, client)
        async with fleet.agent() as again:
            claims = [(seeded, 1), (foreign, 0)]
            answer = await again.register_leased(secret=client.lease.secret, attempts=claims)
            assert [kept.job_id for kept in answer.lease.kept] == [str(seeded.job_ids[1])]
            assert fleet.runs.taken_back == [(seeded.job_ids[0], 0)]
            await again.connect()
            await again.send(log_batch(foreign, 1, ["forged"]), job_result(foreign), mark(1))
            cancel = (await again.receive()).cancel
            assert (cancel.job_id, cancel.attempt) == (str(foreign.job_ids[0]), 0)
            await word(again, 1)
    assert fleet.runs.reports == []
    assert await stored(fleet, foreign) == []
    assert fleet.metrics.dropped == {"snapshot_stale": 1}


@pytest.mark.parametrize("secret", ["", "wrong", "other"])
async def test_without_its_own_secret_it_is_a_new_process(fleet: Fleet, secret: str) -> None:
    async with fleet.leased_agent("other") as other, fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        await away(fleet, client)
        fleet.runs.reclaimed.clear()
        shown = other.lease.secret if secret == "other" else secret
        async with fleet.agent() as again:
            answer = await again.register_leased(secret=shown, attempts=[(seeded, 0)])
            assert not answer.lease.resumed
            assert list(answer.lease.kept) == []
            assert answer.lease.secret not in ("", shown, client.lease.secret)
            assert fleet.runs.reclaimed == [seeded.agent_id]
            # Nor is the secret good for anything now.
            answer = await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])
            assert not answer.lease.resumed
        assert [slot.name for slot in fleet.registry.slots()] == ["other"]


async def test_the_secret_alone_is_not_enough(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        async with fleet.agent() as thief:
            with pytest.raises(GRPCError) as caught:
                await thief.register_leased("runner", secret=client.lease.secret, token="stolen secret, no token")
        assert caught.value.status is Status.UNAUTHENTICATED
        assert len(fleet.registry.slots()) == 1


@pytest.mark.parametrize(("seconds", "resumed"), [(89, True), (90, False)])
async def test_after_the_lease_it_is_too_late(fleet: Fleet, seconds: int, resumed: bool) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        await away(fleet, client)
        fleet.runs.reclaimed.clear()
        fleet.clock.now += timedelta(seconds=seconds)
        async with fleet.agent() as again:
            answer = await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])
            assert answer.lease.resumed == resumed
            assert len(answer.lease.kept) == int(resumed)
            assert bool(fleet.runs.reclaimed) != resumed


async def test_twice_at_once_leaves_one_session_and_the_job(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        await away(fleet, client)
        fleet.runs.reclaimed.clear()
        answers: list[pb.RegisterResponse | Status] = []

        async def come_back() -> None:
            async with fleet.agent() as again:
                try:
                    answers.append(await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)]))
                except GRPCError as error:
                    answers.append(error.status)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(come_back)
        granted = [answer for answer in answers if isinstance(answer, pb.RegisterResponse)]
        assert granted
        assert all(answer.lease.resumed and len(answer.lease.kept) == 1 for answer in granted)
        assert {answer for answer in answers if isinstance(answer, Status)} <= {Status.ABORTED}
        (session,) = fleet.registry.sessions()
        assert session.id in {answer.session_id for answer in granted}
        # Whoever was too slow finds no session and comes back again.
        async with fleet.agent() as last:
            assert (await last.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])).lease.resumed
            await last.connect()
            await last.send(job_result(seeded), mark(1))
            await word(last, 1)
    assert [ok for _, ok in fleet.runs.reports] == [True]
    assert fleet.runs.reclaimed == fleet.runs.taken_back == []


async def test_a_second_process_of_the_same_name_takes_everything(fleet: Fleet) -> None:
    async with fleet.leased_agent() as first:
        seeded = await fleet.running(first)
        async with fleet.agent() as second:
            await second.register_leased()
            with pytest.raises(GRPCError) as caught:
                await first.end()
            assert caught.value.status is Status.ABORTED
            assert fleet.runs.reclaimed.count(seeded.agent_id) == 2
            async with fleet.agent() as back:
                answer = await back.register_leased(secret=first.lease.secret, attempts=[(seeded, 0)])
                assert not answer.lease.resumed


async def test_an_agent_that_took_its_leave_does_not_come_back_for_its_jobs(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        await client.send(pb.AgentMessage(draining=pb.Draining()))
        await client.half_close()
        await client.end()
        await fleet.until_status("runner", "offline")
        assert (await fleet.agent_row("runner"))["lease_hash"] == ""
        async with fleet.agent() as again:
            answer = await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])
            assert not answer.lease.resumed


async def test_a_draining_agent_comes_back_draining(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        await client.send(pb.AgentMessage(draining=pb.Draining()), HEARTBEAT)
        assert (await client.receive()).HasField("pong")
        await away(fleet, client)
        async with fleet.agent() as again:
            await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])
            await again.connect()
            await again.send(pb.AgentMessage(draining=pb.Draining()), job_result(seeded), mark(1))
            await word(again, 1)
            assert fleet.registry.slots() == ()
            await again.half_close()
            await again.end()
    assert fleet.metrics.drains == {"abandoned": 1, "clean": 1}
    assert [ok for _, ok in fleet.runs.reports] == [True]


async def test_a_half_close_after_a_return_waits_until_results_are_stored(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        await away(fleet, client)
        async with fleet.agent() as again:
            await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])
            await again.connect()
            fleet.runs.gate = trio.Event()
            await again.send(log_batch(seeded, 1, ["a"]), job_result(seeded))
            await again.half_close()
            with trio.fail_after(10):
                while not fleet.runs.gate.statistics().tasks_waiting:
                    await trio.testing.wait_all_tasks_blocked(0.002)
            assert fleet.runs.reports == []
            fleet.runs.gate.set()
            await again.end()
            assert [ok for _, ok in fleet.runs.reports] == [True]
            await fleet.until_status("runner", "offline")
            assert (await fleet.agent_row("runner"))["lease_hash"] == ""


async def test_the_stream_that_it_left_counts_for_nothing_any_more(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client, fleet.agent() as again:
        seeded = await fleet.running(client)
        await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])
        await _until_broken(lambda: client.send(job_result(seeded, status=pb.RUN_STATUS_FAILED)))
        with pytest.raises(GRPCError) as caught:
            await client.end()
        assert caught.value.status is Status.ABORTED
        await again.connect()
        await again.send(job_result(seeded), mark(1))
        await word(again, 1)
    assert [report.status for report, _ in fleet.runs.reports] == ["success"]
    assert fleet.runs.taken_back == []


async def test_a_cancel_meant_for_an_agent_that_was_away_is_the_first_it_hears(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        await away(fleet, client)
        assert not fleet.registry.cancel(seeded.agent_id, seeded.run_id, seeded.job_ids[0], "user canceled")
        fleet.runs.cancels = [(seeded.run_id, seeded.job_ids[0])]
        async with fleet.agent() as again:
            await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])
            await again.connect()
            cancel = (await again.receive()).cancel
            assert (cancel.job_id, cancel.reason) == (str(seeded.job_ids[0]), "user canceled")


@pytest.mark.parametrize("bad", [{"secret": "x" * 300}, {"attempts": [pb.Attempt()] * 5000}])
async def test_a_lease_request_over_the_limits(fleet: Fleet, bad: dict[str, Any]) -> None:
    async with fleet.agent() as client:
        with pytest.raises(GRPCError) as caught:
            await client.register(lease=pb.LeaseRequest(**bad), log_batches=True)
        assert caught.value.status is Status.INVALID_ARGUMENT


async def test_ids_that_are_none_are_nothing_it_was_given(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        await away(fleet, client)
        async with fleet.agent() as again:
            lease = pb.LeaseRequest(secret=client.lease.secret, attempts=[pb.Attempt(job_id="../../etc/passwd")])
            answer = await again.register(lease=lease, log_batches=True)
            assert answer.lease.resumed
            assert list(answer.lease.kept) == []


# ---- what is sent ----------------------------------------------------------------------------------


async def test_the_lines_of_a_batch(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        message = log_batch(seeded, 5, ["one", "two\nlines", "n\0ul", ""])
        del message.log_batch.runs[:]
        now = datetime.now(UTC).replace(microsecond=5)
        micros = int(now.timestamp()) * 1_000_000 + 5
        message.log_batch.runs.add(lines=3, at_micros=micros, stream="stderr")
        message.log_batch.runs.add(lines=1, at_micros=0, stream="init.prep")
        await client.send(message, mark(7))
        await word(client, 7)
        rows = await fleet.db.fetch("SELECT seq, stream, text, at, cursor FROM log_lines ORDER BY cursor")
        assert [(r["seq"], r["stream"], r["text"]) for r in rows] == [
            (5, "stderr", "one"),
            (6, "stderr", "two\nlines"),
            (7, "stderr", "nul"),
            (8, "init.prep", ""),
        ]
        assert [row["cursor"] for row in rows] == [1, 2, 3, 4]
        assert {row["at"] for row in rows[:3]} == {now}
        assert rows[3]["at"] == fleet.clock.now


@pytest.mark.parametrize(
    "change",
    [
        {"runs": [(1, 0, "stdout")]},
        {"runs": [(3, 0, "stdout")]},
        {"runs": []},
        {"runs": [(3, 0, "stdout"), (-1, 0, "stdout")]},
        {"runs": [(2, 0, "stdout"), (0, 0, "stdout")]},
        {"first_seq": 0},
        {"first_seq": -5},
        {"first_seq": 2**63 - 1},
        {"texts": []},
        {"texts": [""] * (MAX_LINES + 1)},
    ],
)
async def test_a_batch_that_contradicts_itself_ends_the_stream(fleet: Fleet, change: dict[str, Any]) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        message = log_batch(seeded, change.get("first_seq", 1), change.get("texts", ["a", "b"]))
        if "runs" in change:
            del message.log_batch.runs[:]
            for lines, micros, stream in change["runs"]:
                message.log_batch.runs.add(lines=lines, at_micros=micros, stream=stream)
        await client.send(message)
        with pytest.raises(GRPCError) as caught:
            await client.end()
        assert caught.value.status is Status.INVALID_ARGUMENT
        assert await stored(fleet, seeded) == []


async def test_a_huge_batch_ends_the_stream_and_only_it(fleet: Fleet) -> None:
    async with fleet.leased_agent("other") as other, fleet.leased_agent() as client:
        seeded = await fleet.running(client)

        async def flood() -> None:
            await client.send(log_batch(seeded, 1, ["x" * 1024 * 1024] * 9))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_broken, flood)
            with pytest.raises(GRPCError) as caught:
                await client.end()
            nursery.cancel_scope.cancel()
        assert caught.value.status is Status.RESOURCE_EXHAUSTED
        await other.send(HEARTBEAT)
        assert (await other.receive()).HasField("pong")
        assert await stored(fleet, seeded) == []


async def _until_broken(send: Any) -> None:
    try:
        await send()
    except Exception:
        return


async def test_batches_that_were_not_agreed_on_are_ignored(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(log_batch(seeded, 1, ["a"]), mark(1), HEARTBEAT)
        assert (await client.receive()).HasField("pong")
        await client.half_close()
        await client.end()
    assert await stored(fleet, seeded) == []


@pytest.mark.parametrize("skew", [timedelta(0), timedelta(days=-2)])
async def test_lines_that_are_sent_again_are_stored_once(fleet: Fleet, skew: timedelta) -> None:
    # A clock that is days off makes the server take its own time, which is another one each time.
    at = datetime.now(UTC) + skew
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client, jobs=2)
        await client.send(log_batch(seeded, 1, ["a", "b", "c"], at=at), log_batch(seeded, 1, ["x"], job=1, at=at))
        await client.send(mark(1))
        await word(client, 1)
        await away(fleet, client)
        fleet.clock.now += timedelta(seconds=7)
        async with fleet.agent() as again:
            await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0), (seeded, 1)])
            await again.connect()
            await again.send(log_batch(seeded, 1, ["a"], at=at), log_batch(seeded, 2, ["b", "c", "d"], at=at))
            await again.send(log_batch(seeded, 1, ["x", "y"], job=1, at=at), mark(2))
            await word(again, 2)
    lines = await stored(fleet, seeded)
    assert sorted(lines) == [(1, "a"), (1, "x"), (2, "b"), (2, "y"), (3, "c"), (4, "d")]


async def test_a_mark_is_answered_when_all_before_it_is_stored(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client, jobs=2)
        fleet.runs.gate = trio.Event()
        await client.send(mark(1))
        await word(client, 1)
        await client.send(log_batch(seeded, 1, ["a"], job=1), mark(2))
        await word(client, 2)
        assert (1, "a") in await stored(fleet, seeded)
        await client.send(log_batch(seeded, 1, ["b"]), job_result(seeded), mark(3), HEARTBEAT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(word, client, 3)
            with trio.fail_after(10):
                while not fleet.runs.gate.statistics().tasks_waiting:
                    await trio.testing.wait_all_tasks_blocked(0.002)
            assert fleet.runs.reports == []
            fleet.runs.gate.set()
        assert [ok for _, ok in fleet.runs.reports] == [True]
        # Also for what counts for nothing: the agent need not keep it.
        await client.send(job_result(seeded), log_batch(seeded, 2, ["late"]), mark(4))
        await word(client, 4)


async def test_a_job_that_was_taken_back_is_stopped_at_its_first_line(fleet: Fleet) -> None:
    async with fleet.leased_agent(capacity=1) as client:
        seeded = await fleet.running(client)
        await fleet.db.execute("UPDATE job_runs SET status = 'queued', attempt = 1, agent_id = NULL")
        await client.send(log_batch(seeded, 1, ["a"]), mark(1))
        cancel = (await client.receive()).cancel
        assert (cancel.job_id, cancel.HasField("attempt"), cancel.attempt) == (str(seeded.job_ids[0]), True, 0)
        await word(client, 1)
        assert fleet.registry.slots()[0].free == 1
        await client.send(log_batch(seeded, 2, ["b"]), job_result(seeded, status=pb.RUN_STATUS_FAILED), mark(2))
        await word(client, 2)
    assert await stored(fleet, seeded) == []
    assert fleet.runs.reports == []
    assert fleet.metrics.dropped == {"snapshot_stale": 2}


async def test_what_an_older_attempt_says_is_refused(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        (job,) = seeded.job_ids
        fleet.registry.release(seeded.agent_id, job)
        await fleet.db.execute("UPDATE job_runs SET attempt = 1")
        assert fleet.registry.assign(client.session_id, assignment(seeded.run_id, job, attempt=1))
        assert (await client.receive()).assign.attempt == 1
        await client.send(log_batch(seeded, 1, ["old"]), job_result(seeded, attempt=0))
        await client.send(log_batch(seeded, 1, ["new"], attempt=1), mark(1))
        cancel = (await client.receive()).cancel
        assert (cancel.job_id, cancel.attempt) == (str(job), 0)
        await word(client, 1)
        await client.send(job_result(seeded, attempt=1), mark(2))
        await word(client, 2)
    assert await stored(fleet, seeded) == [(1, "new")]
    assert [(report.attempt, ok) for report, ok in fleet.runs.reports] == [(1, True)]


async def test_what_a_broken_stream_brought_still_counts(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        await client.send(log_batch(seeded, 1, ["a", "b"]), job_result(seeded), mark(1))
    await fleet.until_status("runner", "offline")
    assert [ok for _, ok in fleet.runs.reports] == [True]
    # The agent has no word of it, and says it again.
    async with fleet.agent() as again:
        answer = await again.register_leased(secret=client.lease.secret, attempts=[(seeded, 0)])
        assert answer.lease.resumed
        assert list(answer.lease.kept) == []
        await again.connect()
        await again.send(log_batch(seeded, 1, ["a", "b"]), job_result(seeded), mark(1))
        await word(again, 1)
    assert await stored(fleet, seeded) == [(1, "a"), (2, "b")]
    assert [ok for _, ok in fleet.runs.reports] == [True]


# ---- jobs that nobody knows of ---------------------------------------------------------------------


async def test_a_job_that_no_session_knows_is_taken_back_at_the_second_look(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client, fleet.ready_agent("plain") as plain:
        held, lost = await fleet.running(client), await fleet.running(plain)
        fleet.registry.release(lost.agent_id, lost.job_ids[0])
        await fleet.server.look_for_forgotten()
        assert fleet.runs.taken_back == []
        await fleet.server.look_for_forgotten()
        assert fleet.runs.taken_back == [(lost.job_ids[0], 0)]
        await fleet.server.look_for_forgotten()
        assert len(fleet.runs.taken_back) == 1
        assert (await fleet.runs.running([held.agent_id]))[0][2] == held.job_ids[0]


async def test_a_claim_that_is_on_its_way_is_not_forgotten(fleet: Fleet) -> None:
    async with fleet.leased_agent() as client:
        seeded = await fleet.running(client)
        session = fleet.registry.find(client.session_id)
        kept = dict(session.held)
        session.held.clear()
        await fleet.server.look_for_forgotten()
        session.held.update(kept)
        await fleet.server.look_for_forgotten()
        session.held.clear()
        await fleet.server.look_for_forgotten()
        assert fleet.runs.taken_back == []
        assert seeded.agent_id == session.agent_id
