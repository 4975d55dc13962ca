"""Scripted agents for the bench: real gRPC sessions that answer every assignment with success at once."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field

from grpclib.client import Channel

from gocdnext.proto import agent_pb2 as pb
from gocdnext.proto.agent_grpc import AgentServiceStub


@dataclass
class Seen:
    """What agents were given: job id -> wall clock of its assignment, and run id -> of its first."""

    jobs: dict[str, float] = field(default_factory=dict)
    runs: dict[str, float] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False
    """Take jobs and report nothing."""

    async def wait_jobs(self, count: int, within: float) -> None:
        """Until so many jobs were given out. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while len(self.jobs) < count:
                self.arrived.clear()
                await self.arrived.wait()

    async def wait_run(self, run_id: str, within: float) -> None:
        """Until a job of this run was given out. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while run_id not in self.runs:
                self.arrived.clear()
                await self.arrived.wait()


async def agent(
    port: int, seen: Seen, *, name: str = "bench", capacity: int = 100, tags: tuple[str, ...] = (), ready: asyncio.Event
) -> None:
    """One agent until cancelled."""
    async with Channel("127.0.0.1", port) as channel:
        stub = AgentServiceStub(channel)
        request = pb.RegisterRequest(agent_id=name, token="bench-registration-token", capacity=capacity, tags=tags)
        session = await stub.Register(request)
        async with stub.Connect.open(metadata={"x-gocdnext-session": session.session_id}) as stream:
            await stream.send_message(pb.AgentMessage(heartbeat=pb.Heartbeat()))
            async for message in stream:
                kind = message.WhichOneof("kind")
                if kind == "pong":
                    ready.set()
                if kind != "assign":
                    continue
                now = time.time()
                seen.jobs[message.assign.job_id] = now
                seen.runs.setdefault(message.assign.run_id, now)
                seen.arrived.set()
                if not seen.silent:
                    result = pb.JobResult(
                        run_id=message.assign.run_id, job_id=message.assign.job_id, status=pb.RUN_STATUS_SUCCESS
                    )
                    await stream.send_message(pb.AgentMessage(result=result))


async def _print_assignments(port: int, *, silent: bool) -> None:
    """An agent in a process of its own: one line per assignment, `run id, time`. Takes every job; silent: reports none."""
    seen, ready = Seen(silent=silent), asyncio.Event()
    working = asyncio.create_task(agent(port, seen, capacity=1000, ready=ready))
    await ready.wait()
    print("ready", flush=True)
    told: set[str] = set()
    while not working.done():
        seen.arrived.clear()
        for run_id in seen.runs.keys() - told:
            told.add(run_id)
            print(run_id, seen.runs[run_id], flush=True)
        await seen.arrived.wait()


if __name__ == "__main__":
    asyncio.run(_print_assignments(int(sys.argv[1]), silent="--answer" not in sys.argv))
