"""One session of an agent: what it may be given, what it holds, and what waits to be sent to it.

Synchronous state only, changed from the trio and the asyncio side alike (one thread). No I/O.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID

from grpclib.const import Status

from gocdnext.fleet import frames
from gocdnext.logs.ingest import Target
from gocdnext.proto import agent_pb2 as pb
from gocdnext.runs.assignment import Assignment

OUTBOX_MESSAGES = 16


class Phase(Enum):
    """The life of a session; only a ready one gets work (protocol-agent 1.6)."""

    REGISTERED = "registered"
    CONNECTED = "connected"
    READY = "ready"
    OVER = "over"


class Outbox:
    """Messages on their way to the agent. Bounded; cancels may exceed the bound, the jobs bound their number."""

    def __init__(self) -> None:
        self._messages: deque[pb.ServerMessage] = deque()
        self._ready = asyncio.Event()

    def offer(self, message: pb.ServerMessage, *, urgent: bool = False) -> bool:
        """Queues a message; False when there is no room for one that is not urgent."""
        if not urgent and len(self._messages) >= OUTBOX_MESSAGES:
            return False
        self._messages.append(message)
        self._ready.set()
        return True

    async def next(self) -> pb.ServerMessage:
        """The oldest message, as soon as there is one. One reader, on the asyncio side."""
        while not self._messages:
            self._ready.clear()
            await self._ready.wait()
        return self._messages.popleft()


@dataclass(frozen=True, slots=True)
class Held:
    """An assignment that the session owns. Ids as the strings that were sent: messages are compared with them."""

    run_id: str
    job_id: str
    target: Target


@dataclass(slots=True, eq=False)
class Session:
    """What this server knows of one registration of an agent."""

    id: str
    agent_id: UUID
    name: str
    tags: frozenset[str]
    capacity: int
    engine: str
    generation: int
    seen: datetime
    """When the agent was last heard of."""
    disabled: bool = False
    phase: Phase = Phase.REGISTERED
    draining_since: float | None = None
    """When the agent said that it wants no more work (monotonic seconds)."""
    superseded: bool = False
    """A newer session, here or elsewhere, has taken over: nothing of this one counts any more."""
    ending: tuple[Status, str] | None = None
    """With what its stream is to end."""
    on_end: Callable[[], None] | None = None
    held: dict[str, Held] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    """Jobs that the agent was told to stop."""
    outbox: Outbox = field(default_factory=Outbox)

    @property
    def draining(self) -> bool:
        """Whether the agent finishes what it has and wants no more."""
        return self.draining_since is not None

    @property
    def takes_work(self) -> bool:
        """Whether jobs may be assigned now, room apart."""
        return self.phase is Phase.READY and not self.draining and not self.disabled

    @property
    def free(self) -> int:
        """Slots that no job has."""
        return max(0, self.capacity - len(self.held))

    def assign(self, assignment: Assignment) -> bool:
        """Records the attempt, then queues its frame (protocol-agent 2.4); False when that cannot be."""
        job_id = str(assignment.job_id)
        held = self.held.get(job_id)
        if held is not None:
            return held.target.attempt == assignment.attempt
        if not self.takes_work or self.free == 0:
            return False
        run_id = str(assignment.run_id)
        self.held[job_id] = Held(run_id, job_id, Target(assignment.run_id, assignment.job_id, assignment.attempt))
        if self.outbox.offer(pb.ServerMessage(assign=frames.job_assignment(assignment))):
            return True
        del self.held[job_id]
        return False

    def cancel(self, run_id: UUID, job_id: UUID, reason: str) -> None:
        """Tells the agent, once, to stop a job, whether or not this session assigned it."""
        if str(job_id) not in self.cancelled:
            self.cancelled.add(str(job_id))
            message = pb.CancelJob(run_id=str(run_id), job_id=str(job_id), reason=reason)
            self.outbox.offer(pb.ServerMessage(cancel=message), urgent=True)

    def release(self, job_id: str) -> bool:
        """Forgets the assignment of a job; False when there was none."""
        self.cancelled.discard(job_id)
        return self.held.pop(job_id, None) is not None

    def owns(self, run_id: str, job_id: str) -> Held | None:
        """The assignment that a message of this session speaks of, if it has it."""
        held = self.held.get(job_id)
        return held if held is not None and held.run_id == run_id and not self.superseded else None

    def end(self, status: Status, message: str, *, superseded: bool = False) -> None:
        """Ends the session: no more work, and its stream closes with this status. The first reason stays."""
        self.superseded = self.superseded or superseded
        if self.ending is None:
            self.ending = (status, message)
            self.phase = Phase.OVER
            if self.on_end is not None:
                self.on_end()
