"""Many sessions in one process that do nothing, speak as our own agents do, and come back as they do.

    python -m tests.bench.idle_agents PORT COUNT TOKEN

It knows nothing of trio: under trio-asyncio the crowd would be what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys

from grpclib.client import Channel
from grpclib.exceptions import GRPCError, StreamTerminatedError

from gocdnext.proto import agent_pb2 as pb
from gocdnext.proto.agent_grpc import AgentServiceStub

PAUSE = (0.2, 2.0)
"""Seconds before the next try, as an agent under a lease has it."""


async def _agent(port: int, number: int, token: str) -> None:
    secret = ""
    while True:
        with contextlib.suppress(OSError, GRPCError, StreamTerminatedError, asyncio.TimeoutError):
            async with Channel("127.0.0.1", port) as channel:
                stub = AgentServiceStub(channel)
                lease = pb.LeaseRequest(secret=secret)
                request = pb.RegisterRequest(agent_id=f"crowd-{number}", token=token, log_batches=True, lease=lease)
                session = await stub.Register(request, timeout=10)
                secret = session.lease.secret
                await _stay(stub, session)
        await asyncio.sleep(random.uniform(*PAUSE))


async def _stay(stub: AgentServiceStub, session: pb.RegisterResponse) -> None:
    async with stub.Connect.open(metadata={"x-gocdnext-session": session.session_id}) as stream:
        await stream.send_request()

        async def beat() -> None:
            while True:
                await stream.send_message(pb.AgentMessage(heartbeat=pb.Heartbeat()))
                await asyncio.sleep(session.heartbeat_seconds)

        beating = asyncio.create_task(beat())
        try:
            while await stream.recv_message() is not None:
                pass
        finally:
            beating.cancel()


async def _all(port: int, count: int, token: str) -> None:
    await asyncio.gather(*(_agent(port, number, token) for number in range(count)))


if __name__ == "__main__":
    asyncio.run(_all(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
