"""Connect: sessions, assignments, results and the end of a stream (protocol-agent 1.6, 2.3 to 2.6, 2.9)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import trio
import trio.testing
import trio_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.db.pool import Connection
from gocdnext.fleet import conversation
from gocdnext.fleet.session import OUTBOX_MESSAGES
from gocdnext.proto import agent_pb2 as pb
from tests.service.fleet.conftest import Agent, Fleet, assignment, job_result, log_line
from tests.service.logs.seed import Seeded

HEARTBEAT = pb.AgentMessage(heartbeat=pb.Heartbeat())


async def refused(client: Agent, **connect: Any) -> Status:
    with pytest.raises(GRPCError) as caught:
        await client.connect(**connect)
    return caught.value.status


async def texts(fleet: Fleet, seeded: Seeded) -> list[str]:
    rows = await fleet.db.fetch("SELECT text FROM log_lines WHERE run_id = $1 ORDER BY cursor", seeded.run_id)
    return [row["text"] for row in rows]


async def until(condition: Any) -> None:
    """Waits until the condition holds."""
    with trio.fail_after(10):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.002)


async def test_connect_needs_one_valid_session(fleet: Fleet) -> None:
    async with fleet.agent() as client:
        assert await refused(client, metadata=[("other", "x")]) is Status.UNAUTHENTICATED
        assert await refused(client, session_id="nothing") is Status.UNAUTHENTICATED
        await client.register()
        twice = [("x-gocdnext-session", client.session_id)] * 2
        assert await refused(client, metadata=twice) is Status.UNAUTHENTICATED
        await client.connect()
        first = client.stream
        assert await refused(client) is Status.ALREADY_EXISTS
        client.stream = first
        await client.send(HEARTBEAT)
        assert (await client.receive()).HasField("pong")


async def test_heartbeats_reach_the_row_in_one_statement(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client, fleet.ready_agent("other"):
        fleet.clock.now += timedelta(seconds=40)
        await client.send(HEARTBEAT)
        assert (await client.receive()).pong.at.ToSeconds() == int(fleet.clock.now.timestamp())
        await fleet.server.keep_presence()
        assert (await fleet.agent_row("runner"))["last_seen_at"] == fleet.clock.now
        assert (await fleet.agent_row("other"))["last_seen_at"] == fleet.clock.now - timedelta(seconds=40)
        fleet.clock.now += timedelta(seconds=80)
        await fleet.server.keep_presence()
        # Silent for 120 s: over. Heard of 80 s ago: still there.
        assert [slot.name for slot in fleet.registry.slots()] == ["runner"]
        await fleet.until_status("other", "offline")


async def test_slots_and_the_whole_way_of_a_job(fleet: Fleet) -> None:
    async with fleet.ready_agent(capacity=2) as client:
        assert fleet.woken == 1
        (slot,) = fleet.registry.slots()
        assert (slot.name, slot.free, slot.capacity) == ("runner", 2, 2)
        seeded = await fleet.running(client, jobs=2)
        assert fleet.registry.slots()[0].free == 0
        assert not fleet.registry.assign(client.session_id, assignment(uuid4(), uuid4()))
        # The same attempt again changes nothing, another attempt of a job that runs is refused.
        assert fleet.registry.assign(client.session_id, assignment(seeded.run_id, seeded.job_ids[0]))
        assert not fleet.registry.assign(client.session_id, assignment(seeded.run_id, seeded.job_ids[0], attempt=1))
        await client.send(*(log_line(seeded, seq, f"line {seq}") for seq in range(1, 101)))
        await client.send(job_result(seeded, outputs={"version": "1.2"}))
        await client.half_close()
        await client.end()
    ((report, stored),) = fleet.runs.reports
    assert stored
    assert (report.status, report.exit_code, report.attempt, report.outputs) == ("success", 0, 0, {"version": "1.2"})
    # The barrier: every line was stored before the result.
    assert fleet.runs.lines_at_completion == [100]
    assert await texts(fleet, seeded) == [f"line {seq}" for seq in range(1, 101)]
    assert fleet.freed == 1
    await fleet.until_status("runner", "offline")
    assert fleet.metrics.codes["Connect", "OK"] == 1


async def test_half_close_waits_until_results_are_stored(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        fleet.runs.gate = trio.Event()
        await client.send(pb.AgentMessage(draining=pb.Draining()), job_result(seeded))
        await client.half_close()
        ended = trio.Event()

        async def end() -> None:
            await client.end()
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            await until(lambda: not fleet.registry.slots())
            assert not ended.is_set()
            assert fleet.runs.reports == []
            fleet.runs.gate.set()
        assert [stored for _, stored in fleet.runs.reports] == [True]
        assert fleet.metrics.drains == {"clean": 1}


async def test_a_result_that_has_arrived_is_stored_though_its_agent_vanishes(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        fleet.runs.gate = trio.Event()
        await client.send(job_result(seeded), HEARTBEAT)
        await until(lambda: fleet.runs.gate.statistics().tasks_waiting == 1)
        client.channel.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        fleet.runs.gate.set()
    await until(lambda: fleet.runs.reports)
    assert fleet.runs.reports[0][1]
    await fleet.until_status("runner", "offline")


async def test_what_an_agent_sent_before_it_vanished_counts(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(*(log_line(seeded, seq) for seq in range(1, 1001)), job_result(seeded))
    await fleet.until_status("runner", "offline")
    assert [stored for _, stored in fleet.runs.reports] == [True]
    assert fleet.runs.lines_at_completion == [1000]


async def test_draining_agents_get_nothing_new(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(pb.AgentMessage(draining=pb.Draining()))
        await until(lambda: not fleet.registry.slots())
        assert not fleet.registry.assign(client.session_id, assignment(uuid4(), uuid4()))
        await client.send(log_line(seeded, 1), HEARTBEAT)
        assert (await client.receive()).HasField("pong")
    await until(lambda: fleet.metrics.drains == {"abandoned": 1})


async def test_disabled_agents_get_nothing_until_enabled(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        await fleet.db.execute("UPDATE agents SET status = 'disabled'")
        await fleet.server.keep_presence()
        assert fleet.registry.slots() == ()
        assert not fleet.registry.assign(client.session_id, assignment(uuid4(), uuid4()))
        await fleet.db.execute("UPDATE agents SET status = 'online'")
        await fleet.server.keep_presence()
        assert len(fleet.registry.slots()) == 1
        assert fleet.woken == 2
        await fleet.db.execute("UPDATE agents SET status = 'disabled'")
    async with fleet.agent() as client:
        await client.register()
        await client.connect()
        assert fleet.registry.slots() == ()
        assert (await fleet.agent_row("runner"))["status"] == "disabled"


async def test_only_what_the_session_owns_counts(fleet: Fleet) -> None:
    async with fleet.ready_agent("owner") as owner, fleet.ready_agent("thief") as thief:
        seeded = await fleet.running(owner)
        await thief.send(log_line(seeded, 1, "forged"), job_result(seeded, status=pb.RUN_STATUS_FAILED))
        wrong_run = job_result(seeded)
        wrong_run.result.run_id = str(uuid4())
        await owner.send(wrong_run, log_line(seeded, 1, "real"))
        for client in (thief, owner):
            await client.half_close()
            await client.end()
    assert fleet.runs.reports == []
    assert await texts(fleet, seeded) == ["real"]
    assert fleet.metrics.dropped == {"snapshot_stale": 1}


async def test_duplicate_results_are_ignored(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        again = job_result(seeded, status=pb.RUN_STATUS_FAILED)
        await client.send(job_result(seeded), again, log_line(seeded, 9, "late"))
        await client.half_close()
        await client.end()
    assert [report.status for report, _ in fleet.runs.reports] == ["success"]
    assert await texts(fleet, seeded) == []


@pytest.mark.parametrize(
    ("status", "reported"),
    [
        (pb.RUN_STATUS_FAILED, "failed"),
        (pb.RUN_STATUS_CANCELED, "failed"),
        (pb.RUN_STATUS_DISRUPTED, "disrupted"),
        (pb.RUN_STATUS_RUNNING, None),
        (77, None),
    ],
)
async def test_what_a_status_means(fleet: Fleet, status: int, reported: str | None) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(job_result(seeded, status=status, exit_code=-1, error="killed"))
        await client.half_close()
        await client.end()
    assert [report.status for report, _ in fleet.runs.reports] == ([reported] if reported else [])


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"outputs": {"Bad": "x"}}, "outputs"),
        ({"outputs": {f"o{n}": "" for n in range(65)}}, "outputs"),
        ({"outputs": {"big": "x" * 65536}}, "outputs"),
        ({"artifacts": [pb.ArtifactRef(path="dist", storage_key="k", size=1)]}, "artifacts"),
    ],
)
async def test_a_success_that_lies_is_a_failure(fleet: Fleet, fields: dict[str, Any], kind: str) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(job_result(seeded, **fields))
        await client.half_close()
        await client.end()
    ((report, _),) = fleet.runs.reports
    assert (report.status, dict(report.outputs)) == ("failed", {})
    assert report.error
    assert fleet.metrics.invalid == {kind: 1}


async def test_cancel_frames(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        for _ in range(2):
            assert fleet.registry.cancel(seeded.agent_id, seeded.run_id, seeded.job_ids[0], "user canceled")
        await client.send(HEARTBEAT)
        cancel = (await client.receive()).cancel
        assert (cancel.job_id, cancel.reason) == (str(seeded.job_ids[0]), "user canceled")
        assert (await client.receive()).HasField("pong")
    await until(lambda: not fleet.registry.sessions())
    assert not fleet.registry.cancel(seeded.agent_id, seeded.run_id, seeded.job_ids[0], "user canceled")


async def test_a_released_assignment_frees_its_slot(fleet: Fleet) -> None:
    async with fleet.ready_agent(capacity=1) as client:
        seeded = await fleet.running(client)
        fleet.registry.release(seeded.agent_id, seeded.job_ids[0])
        assert fleet.registry.slots()[0].free == 1
        assert fleet.freed == 1
        # What the agent still says of it is late.
        await client.send(log_line(seeded, 1, "late"), job_result(seeded))
        await client.half_close()
        await client.end()
    assert fleet.runs.reports == []
    assert await texts(fleet, seeded) == []


async def test_an_agent_that_does_not_read_gets_no_more_than_its_queue(fleet: Fleet) -> None:
    async with fleet.agent() as client:
        await client.register(capacity=100)
        # Not connected: nobody takes from the queue, and nothing may be assigned either.
        assert not fleet.registry.assign(client.session_id, assignment(uuid4(), uuid4()))
        (session,) = fleet.registry.sessions()
        fleet.registry.claim(client.session_id)
        fleet.registry.make_ready(session)
        sent = [fleet.registry.assign(client.session_id, assignment(uuid4(), uuid4())) for _ in range(20)]
        assert sent == [True] * OUTBOX_MESSAGES + [False] * 4
        assert fleet.registry.slots()[0].free == 100 - OUTBOX_MESSAGES
        # A cancel is never lost for want of room.
        assert fleet.registry.cancel(session.agent_id, uuid4(), uuid4(), "user canceled")


async def test_a_vanished_agent_goes_offline_and_its_lines_are_kept(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(*(log_line(seeded, seq, f"line {seq}") for seq in range(1, 21)), HEARTBEAT)
        assert (await client.receive()).HasField("pong")
    await fleet.until_status("runner", "offline")
    assert await texts(fleet, seeded) == [f"line {seq}" for seq in range(1, 21)]
    assert fleet.registry.slots() == ()


async def test_lines_that_cannot_be_stored_in_time_are_counted(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "FAREWELL_SECONDS", 0.05)
    locked, over = trio.Event(), trio.Event()

    async def hold(conn: Connection) -> None:
        await conn.execute("LOCK job_runs")
        locked.set()
        await trio_asyncio.trio_as_aio(over.wait)()

    async with trio.open_nursery() as nursery:
        async with fleet.ready_agent() as client:
            seeded = await fleet.running(client)
            nursery.start_soon(fleet.db.transaction, hold)
            await locked.wait()
            await client.send(*(log_line(seeded, seq) for seq in range(1, 21)), HEARTBEAT)
            assert (await client.receive()).HasField("pong")
        await fleet.until_status("runner", "offline")
        over.set()
    assert fleet.metrics.dropped == {"flush_failed": 20}
    assert fleet.metrics.discarded == 1


async def test_lines_of_a_requeued_attempt_are_dropped(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await fleet.db.execute("UPDATE job_runs SET status = 'queued', attempt = 1, agent_id = NULL")
        await client.send(log_line(seeded, 1), job_result(seeded))
        await client.half_close()
        await client.end()
    assert await texts(fleet, seeded) == []
    assert [stored for _, stored in fleet.runs.reports] == [False]
    assert fleet.metrics.dropped == {"snapshot_stale": 1}


async def test_a_session_fenced_by_another_server_ends(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        await fleet.db.execute("UPDATE agents SET session_generation = session_generation + 1")
        await fleet.server.keep_presence()
        with pytest.raises(GRPCError) as caught:
            await client.end()
        assert caught.value.status is Status.ABORTED
    assert (await fleet.agent_row("runner"))["status"] == "online"


async def test_shutdown_ends_the_streams_and_stores_what_was_received(fleet: Fleet) -> None:
    other = Fleet(fleet.db, fleet.blobs)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            other.port = await nursery.start(other.server.run, "127.0.0.1", 0)
            async with other.ready_agent() as client, other.ready_agent("idle"):
                seeded = await other.running(client)
                await client.send(*(log_line(seeded, seq, f"line {seq}") for seq in range(1, 51)), HEARTBEAT)
                assert (await client.receive()).HasField("pong")
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True), pytest.raises(GRPCError) as caught:
                    await client.end()
    assert caught.value.status is Status.UNAVAILABLE
    assert await texts(fleet, seeded) == [f"line {seq}" for seq in range(1, 51)]
    # They come back to the next server: until then they are as they were.
    assert (await fleet.agent_row("runner"))["status"] == "online"
    assert trio_asyncio.current_loop.get() is not None


async def test_an_agent_that_is_disabled_elsewhere_gets_no_work_at_once(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        agent_id = await fleet.agent_id(client.name)
        fleet.registry.told(agent_id, True)
        assert fleet.registry.slots() == ()
        assert not fleet.registry.assign(client.session_id, assignment(uuid4(), uuid4()))
        woken = fleet.woken
        fleet.registry.told(agent_id, False)
        assert (len(fleet.registry.slots()), fleet.woken) == (1, woken + 1)
        fleet.registry.told(uuid4(), True)
