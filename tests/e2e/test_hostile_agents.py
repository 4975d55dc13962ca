"""Agents that mean harm or are broken, against the whole product: the others go on, and memory is bounded.

What each kind of garbage leads to on the wire is tested in `tests/service/fleet`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import grpclib.client
import pytest
import trio
import trio_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from gocdnext.proto import agent_pb2 as pb
from tests.e2e.product import TOKEN, Api, Product, Reader, api_of, make_repository, resident, until
from tests.service.fleet.conftest import Agent

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GROWTH = 100 * MIB
"""Bytes that the server's memory may grow by, whatever an agent sends."""
FLOOD_SECONDS = 4.0
JOB = "one: {stage: build, script: ['echo done']}"


@contextlib.asynccontextmanager
async def agent_of(product: Product) -> AsyncIterator[Agent]:
    """A scripted agent that is not registered yet. Wants an open trio-asyncio loop."""

    async def open_channel() -> grpclib.client.Channel:
        return grpclib.client.Channel("127.0.0.1", product.grpc_port)

    channel = await trio_asyncio.aio_as_trio(open_channel)()
    try:
        yield Agent(channel)
    finally:
        channel.close()


async def refusal(call: object) -> Status:
    with pytest.raises(GRPCError) as caught:
        await call  # type: ignore[misc]
    return caught.value.status


async def works(product: Product, api: Api, repository: Path) -> None:
    """The product does its work: a well-behaved agent gets a job and ends it."""
    product.agent("good")
    await api.online("good")
    assert await api.ended(await api.start(repository)) == "success"


async def test_garbage_floods_and_wrong_tokens_change_nothing(product: Product, quick_dir: Path) -> None:
    repository = make_repository(quick_dir / "repository", JOB)
    product.start()
    async with trio_asyncio.open_loop(), api_of(product) as api:
        before = resident(product.pid)
        open_sockets = contextlib.ExitStack()
        with open_sockets:
            for data in (
                os.urandom(65536),
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                PREFACE + os.urandom(65536),
                PREFACE + struct.pack(">I", 0xFFFFFF00) + b"\0" * 65536,
                PREFACE + struct.pack(">HBBBI", 0, 8, 6, 0, 0) * 100_000,
                b"",
                PREFACE[:10],
            ):
                sock = open_sockets.enter_context(socket.create_connection(("127.0.0.1", product.grpc_port), 10))
                with contextlib.suppress(ConnectionError, TimeoutError):
                    await trio.to_thread.run_sync(sock.sendall, data)
            async with agent_of(product) as client:
                assert await refusal(client.register(name="unknown", token="wrong")) is Status.NOT_FOUND
                assert await refusal(client.register(name="", token=TOKEN)) is Status.INVALID_ARGUMENT
                assert await refusal(client.connect(session_id=str(uuid4()))) is Status.UNAUTHENTICATED
            await works(product, api, repository)
            async with agent_of(product) as client:
                assert await refusal(client.register(name="good", token="wrong")) is Status.UNAUTHENTICATED
        assert resident(product.pid) - before < GROWTH
        assert {agent["name"] for agent in (await api.get("/api/v1/agents"))["agents"]} == {"good"}
    assert product.stop() == 0


async def test_nobody_takes_over_the_job_of_another(product: Product, quick_dir: Path) -> None:
    flag = quick_dir / "flag"
    job = f"one: {{stage: build, script: ['echo mine', 'until test -e {flag}; do sleep 0.05; done']}}"
    repository = make_repository(quick_dir / "repository", job)
    product.start()
    product.agent("good")
    async with trio_asyncio.open_loop(), api_of(product) as api, agent_of(product) as thief:
        await api.online("good")
        run = await api.start(repository)
        await api.running(run)
        (victim,) = await api.jobs(run)
        ids = {"run_id": run, "job_id": victim["id"]}
        await thief.register(name="thief", token=TOKEN)
        await thief.connect()
        first = thief.stream
        assert await refusal(thief.connect()) is Status.ALREADY_EXISTS
        thief.stream = first
        line = pb.LogLine(**ids, seq=1, stream="stdout", text="forged")
        await thief.send(
            pb.AgentMessage(log=line),
            pb.AgentMessage(result=pb.JobResult(**ids, status=pb.RUN_STATUS_SUCCESS)),
            pb.AgentMessage(heartbeat=pb.Heartbeat()),
        )
        # Messages are handled in order: after the answer to the heartbeat, the others have been.
        assert (await thief.receive()).HasField("pong")
        (after,) = await api.jobs(run)
        assert (after["status"], after["agent_id"]) == ("running", victim["agent_id"])
        flag.touch()
        assert await api.ended(run) == "success"
        text = await api.log(run, victim["id"])
        assert "mine\n" in text
        assert "forged" not in text
    assert product.stop() == 0


async def test_an_agent_that_floods_is_slowed_down(product: Product, quick_dir: Path) -> None:
    """At full speed without a pause: memory is bounded, everybody else is answered, nothing is dropped."""
    repository = make_repository(quick_dir / "repository", JOB)
    product.start()
    async with trio_asyncio.open_loop(), api_of(product) as api, agent_of(product) as client:
        await client.register(name="flooder", token=TOKEN)
        await client.connect()
        run = await api.start(repository)
        assignment = (await client.receive()).assign
        before = peak = resident(product.pid)
        flooding = trio.CancelScope(deadline=trio.current_time() + FLOOD_SECONDS)
        sent, answered = 0, 0

        async def flood() -> None:
            nonlocal sent
            with flooding:
                while True:
                    frames = b"".join(_line(assignment, seq) for seq in range(sent + 1, sent + 501))
                    with trio.CancelScope(shield=True):  # a piece of a frame must not be all that was sent
                        await trio_asyncio.aio_as_trio(client.stream._stream.send_data)(frames)
                    sent += 500
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            while not flooding.cancelled_caught and trio.current_time() < flooding.deadline:
                await api.get(f"/api/v1/runs/{run}?logs=10")
                answered += 1
                peak = max(peak, resident(product.pid))
        result = pb.JobResult(run_id=run, job_id=assignment.job_id, status=pb.RUN_STATUS_SUCCESS)
        await client.send(pb.AgentMessage(result=result))
        assert await api.ended(run) == "success"
        peak = max(peak, resident(product.pid))
        assert (await api.log(run, assignment.job_id)).count("\n") == sent
        print(f"{sent} lines sent, {answered} requests answered, memory grew by {(peak - before) / MIB:.0f} MiB")
        assert sent > 1000
        assert answered > 3
        assert peak - before < GROWTH
    assert product.stop() == 0


def _line(assignment: pb.JobAssignment, seq: int) -> bytes:
    line = pb.LogLine(
        run_id=assignment.run_id, job_id=assignment.job_id, seq=seq, stream="stdout", text=f"{seq} " + "x" * 300
    )
    line.at.GetCurrentTime()
    data = pb.AgentMessage(log=line).SerializeToString()
    return b"\0" + struct.pack(">I", len(data)) + data


async def test_a_job_of_an_agent_that_vanishes_is_repeated(product: Product, quick_dir: Path) -> None:
    """Cut off by a reset, it comes back under its name and is given its job again, as another attempt."""
    repository = make_repository(quick_dir / "repository", JOB)
    product.start()
    async with trio_asyncio.open_loop(), api_of(product) as api, trio.open_nursery() as nursery:
        async with agent_of(product) as client:
            await client.register(name="runner", token=TOKEN)
            await client.connect()
            run = await api.start(repository)
            reader = Reader(product, run)
            nursery.start_soon(reader.run)
            assignment = (await client.receive()).assign
            line = pb.LogLine(run_id=run, job_id=assignment.job_id, seq=1, stream="stdout", text="before")
            await client.send(pb.AgentMessage(log=line))
            await until(lambda: [seen.text for seen in reader.seen] == ["before"], "its line was stored")
            protocol = await trio_asyncio.aio_as_trio(client.channel.__connect__)()
            transport: asyncio.Transport = protocol.connection._transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        async with agent_of(product) as again:
            await again.register(name="runner", token=TOKEN)
            await again.connect()
            repeated = (await again.receive()).assign
            assert repeated.job_id == assignment.job_id
            line = pb.LogLine(run_id=run, job_id=assignment.job_id, seq=1, stream="stdout", text="after")
            result = pb.JobResult(run_id=run, job_id=assignment.job_id, status=pb.RUN_STATUS_SUCCESS)
            with contextlib.suppress(StreamTerminatedError):
                await again.send(pb.AgentMessage(log=line), pb.AgentMessage(result=result))
            assert await api.ended(run) == "success"
        await until(lambda: reader.end, "the reader was told the end")
        await reader.compare(api)
        assert await api.log(run, assignment.job_id) == "after\n"
    assert product.stop() == 0
