"""The jobs that this agent has, whatever becomes of the stream that they came on (protocol-agent 3.2).

An attempt is the agent's from its assignment until the server has stored its result. A job that is taken from the agent
is stopped, and nothing of it goes out any more. It knows no wire and no server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog
import trio

from gocdnext.agent.activity import Activity
from gocdnext.agent.calls import Calls
from gocdnext.agent.config import AgentSettings
from gocdnext.agent.engines import Engine
from gocdnext.agent.job import Job
from gocdnext.agent.outbox import Channel, Outbox, frame
from gocdnext.proto.agent_pb2 import AgentMessage, Attempt, CancelJob, JobAssignment, JobResult

WAITING_JOBS = 64
"""Assignments beyond the capacity that are held; a server that keeps to the capacity never sends one."""

_log = structlog.get_logger("gocdnext.agent")
AttemptId = tuple[str, int]
"""Job id and attempt."""


@dataclass(slots=True, eq=False)
class _Held:
    """One attempt of one job."""

    run_id: str
    job_id: str
    attempt: int
    job: Job
    channel: Channel


class Work:
    """Takes assignments and cancels; the jobs run in `nursery`."""

    def __init__(
        self,
        settings: AgentSettings,
        engine: Engine,
        outbox: Outbox,
        calls: Calls,
        nursery: trio.Nursery,
        activity: Activity,
        *,
        accept_no_more: Callable[[], None],
        drain: Callable[[], None],
    ) -> None:
        """The last two are for an agent of one job: called when that is taken, and when it has ended."""
        self._settings = settings
        self._engine = engine
        self._outbox = outbox
        self._calls = calls
        self._nursery = nursery
        self._activity = activity
        self._accept_no_more = accept_no_more
        self._drain = drain
        self._slots = trio.CapacityLimiter(settings.capacity)
        self._held: dict[str, _Held] = {}
        self._running: set[_Held] = set()
        self._idle = trio.Event()
        self._idle.set()
        self._results_count = True
        self.accepting = True
        """Cleared by a drain: no new jobs."""

    @property
    def running(self) -> int:
        """Jobs that run or wait for a slot, also those that are being stopped."""
        return len(self._running)

    def attempts(self) -> list[Attempt]:
        """What is the agent's now: it runs, or it has ended and the server has not said that it stored the result."""
        return [Attempt(run_id=h.run_id, job_id=h.job_id, attempt=h.attempt) for h in self._held.values()]

    def assign(self, assignment: JobAssignment) -> None:
        """Starts a job, unless it is here already (3.2) or must not be taken."""
        log = _log.bind(run_id=assignment.run_id, job_id=assignment.job_id)
        older = self._held.get(assignment.job_id)
        if not assignment.run_id or not assignment.job_id:
            log.warning("assignment without ids ignored")
        elif not self.accepting:
            log.warning("assignment ignored: this agent is draining")
        elif older is not None and older.attempt >= assignment.attempt:
            log.warning("assignment ignored: the job is running already")
        elif len(self._held) >= self._settings.capacity + WAITING_JOBS:
            log.warning("assignment ignored: too many jobs are waiting already", jobs=len(self._held))
        else:
            if older is not None:
                self._take_away(older, "a newer attempt has come")
            self._start(assignment)

    def cancel(self, cancel: CancelJob) -> None:
        """Ends a job early, on the server's word; its result says so."""
        held = self._held.get(cancel.job_id)
        if held is not None and cancel.HasField("attempt") and cancel.attempt != held.attempt:
            held = None
        _log.info("cancel", run_id=cancel.run_id, job_id=cancel.job_id, reason=cancel.reason, running=held is not None)
        if held is not None:
            held.job.cancel(cancel.reason)

    def keep_only(self, attempts: Collection[AttemptId]) -> None:
        """All others are not the agent's any more: the server has given them to somebody else."""
        for held in list(self._held.values()):
            if (held.job_id, held.attempt) not in attempts:
                self._take_away(held, "the server has taken the job back")

    def take_away(self, reason: str) -> None:
        """No job is the agent's any more."""
        for held in list(self._held.values()):
            self._take_away(held, reason)

    async def idle(self) -> None:
        """Waits until nothing runs any more."""
        await self._idle.wait()

    def stop(self, reason: str) -> None:
        """Stops all jobs; no results are sent. For a failure that is only the agent's stop must not be taken for the
        jobs' own: without a result the server repeats them. They stay the agent's, so that the server knows that they
        had begun."""
        self._results_count = False
        for held in self._held.values():
            held.job.cancel(reason)

    def _start(self, assignment: JobAssignment) -> None:
        channel = self._outbox.channel()
        job = Job(assignment, self._engine, self._settings.workspace, channel, self._calls)
        held = _Held(assignment.run_id, assignment.job_id, assignment.attempt, job, channel)
        self._held[held.job_id] = held
        if not self._running:
            self._idle = trio.Event()
        self._running.add(held)
        self._activity.job_taken(job)
        if self._settings.once:
            self._accept_no_more()
        self._nursery.start_soon(self._run, held, assignment.name)

    async def _run(self, held: _Held, name: str) -> None:
        log = _log.bind(run_id=held.run_id, job_id=held.job_id)
        sent: JobResult | None = None
        ours = False
        try:
            log.info("job taken", name=name, attempt=held.attempt)
            result = await held.job.run(self._slots)
            log.info("job ended", exit_code=result.exit_code, error=result.error)
            await held.channel.room()
            if self._results_count:
                sent, ours = result, self._held.get(held.job_id) is held
                held.channel.put(frame(AgentMessage(result=result)), then=lambda: self._forget(held))
        finally:
            if sent is None and self._results_count:
                self._forget(held)
            self._running.discard(held)
            self._activity.job_ended(held.job, sent if ours else None)
            if self._settings.once:
                self._drain()
            if not self._running:
                self._idle.set()

    def _take_away(self, held: _Held, reason: str) -> None:
        _log.warning("job stopped", run_id=held.run_id, job_id=held.job_id, attempt=held.attempt, why=reason)
        self._forget(held)
        held.channel.close()
        held.job.cancel(reason)

    def _forget(self, held: _Held) -> None:
        if self._held.get(held.job_id) is held:
            del self._held[held.job_id]
