"""What this agent has done and does, in numbers: for its metrics, and for `agent --once`. It starts and ends nothing."""

from __future__ import annotations

from typing import Protocol

import trio

from gocdnext.proto import agent_pb2
from gocdnext.proto.agent_pb2 import JobResult


class Lines(Protocol):
    """A job, as far as it counts here."""

    @property
    def lines(self) -> int:
        """Lines of its log so far."""


class Activity:
    """Told by the session; read by whoever wants to know."""

    def __init__(self) -> None:
        self.connected = False
        """Whether a session with the server stands."""
        self.sessions = 0
        """Sessions that stood so far."""
        self.taken = 0
        self.succeeded = 0
        self.failed = 0
        self.stopped = 0
        """Jobs without a result: the agent was stopped, or lost the server."""
        self.first_taken = trio.Event()
        self._running: dict[int, Lines] = {}
        self._lines = 0

    @property
    def running(self) -> int:
        """Jobs that run or wait for a slot."""
        return len(self._running)

    @property
    def log_lines(self) -> int:
        """Lines of the logs of all jobs."""
        return self._lines + sum(job.lines for job in self._running.values())

    def session_began(self) -> None:
        self.connected = True
        self.sessions += 1

    def session_ended(self) -> None:
        self.connected = False

    def job_taken(self, job: Lines) -> None:
        self.taken += 1
        self._running[id(job)] = job
        self.first_taken.set()

    def job_ended(self, job: Lines, result: JobResult | None) -> None:
        """`result` is None when none was sent."""
        del self._running[id(job)]
        self._lines += job.lines
        if result is None:
            self.stopped += 1
        elif result.status == agent_pb2.RUN_STATUS_SUCCESS:
            self.succeeded += 1
        else:
            self.failed += 1
