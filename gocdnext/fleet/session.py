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
MAX_REFUSED = 4096
"""Attempts that an agent is told to stop because they are not its own; their ids come from the agent."""
NOT_YOURS = "the job is not this agent's any more"
MAX_CLEANUPS = 256
"""Clean-ups of services that may wait for an agent's answer; what is over that, its next session is told."""
CLEANING_ENGINES = frozenset({"", "kubernetes"})
"""Engines whose services outlive a job (protocol-agent 2.6)."""


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
        self._stored: int | None = None

    def offer(self, message: pb.ServerMessage, *, urgent: bool = False) -> bool:
        """Queues a message; False when there is no room for one that is not urgent."""
        if not urgent and len(self._messages) >= OUTBOX_MESSAGES:
            return False
        self._messages.append(message)
        self._ready.set()
        return True

    def stored(self, number: int) -> None:
        """What the agent has sent up to that mark need not be kept by it. The newest number takes the place of older."""
        self._stored = number
        self._ready.set()

    async def next(self) -> pb.ServerMessage:
        """The oldest message, as soon as there is one. One reader, on the asyncio side."""
        while True:
            if self._messages:
                return self._messages.popleft()
            if self._stored is not None:
                number, self._stored = self._stored, None
                return pb.ServerMessage(stored=pb.Stored(number=number))
            self._ready.clear()
            await self._ready.wait()


@dataclass(frozen=True, slots=True)
class Held:
    """An assignment that the session owns. Ids as the strings that were sent: messages are compared with them."""

    run_id: str
    job_id: str
    target: Target
    stored: int = 0
    """Lines up to this number were stored before the session began: the agent may send them again."""


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
    log_batches: bool = False
    """The agent may send LogBatch."""
    leased: bool = False
    """The agent keeps its jobs and what is not stored through a break (see `lease`)."""
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
    refused: set[tuple[str, int]] = field(default_factory=set)
    """Attempts that are not the agent's any more and that it was told to stop."""
    cleanups: dict[UUID, int] = field(default_factory=dict)
    """Runs whose services the agent was told to remove, up to which generation; until it answers."""
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

    def hold(self, target: Target, stored: int) -> None:
        """An attempt that an earlier session of the same agent process was given and that goes on in this one."""
        run_id, job_id = str(target.run_id), str(target.job_id)
        self.held[job_id] = Held(run_id, job_id, target, stored)

    def cancel(self, run_id: UUID, job_id: UUID, reason: str) -> None:
        """Tells the agent, once, to stop a job, whether or not this session assigned it."""
        if str(job_id) not in self.cancelled:
            self.cancelled.add(str(job_id))
            message = pb.CancelJob(run_id=str(run_id), job_id=str(job_id), reason=reason)
            self.outbox.offer(pb.ServerMessage(cancel=message), urgent=True)

    def clean_up(self, run_id: UUID, generation: int) -> None:
        """Tells the agent to remove the services of a run up to a generation, if its engine keeps any."""
        if self.engine not in CLEANING_ENGINES or self.cleanups.get(run_id, -1) >= generation:
            return
        if len(self.cleanups) >= MAX_CLEANUPS and run_id not in self.cleanups:
            return
        self.cleanups[run_id] = generation
        message = pb.CleanupRunServices(run_id=str(run_id), max_generation=generation)
        self.outbox.offer(pb.ServerMessage(cleanup_run_services=message), urgent=True)

    def release(self, job_id: str) -> bool:
        """Forgets the assignment of a job; False when there was none."""
        self.cancelled.discard(job_id)
        return self.held.pop(job_id, None) is not None

    def owns(self, run_id: str, job_id: str, attempt: int | None = None) -> Held | None:
        """The assignment that a message of this session speaks of, if it has it. Agents with a lease say the attempt:
        one of them may still be stopping an earlier one."""
        held = self.held.get(job_id)
        if held is None or held.run_id != run_id or self.superseded:
            return None
        return held if attempt is None or not self.leased or attempt == held.target.attempt else None

    def refuse(self, run_id: str, job_id: str, attempt: int) -> None:
        """Tells an agent with a lease, once, to stop an attempt that is not its own any more. Others find out as in
        the field: nothing that they say of it counts."""
        if self.leased and (job_id, attempt) not in self.refused and len(self.refused) < MAX_REFUSED:
            self.refused.add((job_id, attempt))
            message = pb.CancelJob(run_id=run_id, job_id=job_id, reason=NOT_YOURS, attempt=attempt)
            self.outbox.offer(pb.ServerMessage(cancel=message), urgent=True)

    def end(self, status: Status, message: str, *, superseded: bool = False) -> None:
        """Ends the session: no more work, and its stream closes with this status. The first reason stays."""
        self.superseded = self.superseded or superseded
        if self.ending is None:
            self.ending = (status, message)
            self.phase = Phase.OVER
            if self.on_end is not None:
                self.on_end()
