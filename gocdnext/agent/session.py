"""One session on the stream: heartbeats, assignments, cancels, results, drain (protocol-agent 1.6, 3.2).

A session ends by a drain that the server confirmed, or it is lost: then its jobs are cancelled, for their results
could not be delivered, and the server repeats them. Connecting again is the client's business.
"""

from __future__ import annotations

import structlog
import trio

from gocdnext.agent.calls import Calls
from gocdnext.agent.config import AgentSettings
from gocdnext.agent.engines import Engine
from gocdnext.agent.job import Job
from gocdnext.agent.outbox import Outbox, frame
from gocdnext.agent.wire import Wire, WireError
from gocdnext.proto.agent_pb2 import AgentMessage, CancelJob, Draining, Heartbeat, JobAssignment

HEARTBEAT = 30.0
"""Seconds between heartbeats when the server does not say."""
SILENCE = 3
"""Heartbeats without any word from the server after which the connection counts as dead."""
WAITING_JOBS = 64
"""Assignments beyond the capacity that are held; a server that keeps to the capacity never sends one."""
SETTLED = 30.0
"""Seconds after which a session that answers has stood. Two agents with one name throw each other out again and
again; they must not do so at full speed."""
CLEAN_UP = 30.0
"""Seconds that jobs killed by a drain get to remove their directories."""

_log = structlog.get_logger("gocdnext.agent")


class SessionLostError(Exception):
    """The stream is gone. `stood` says whether it had worked for a while, so that a quick return is in order."""

    def __init__(self, reason: str, *, stood: bool) -> None:
        super().__init__(reason)
        self.stood = stood


class Session:
    """Runs on an open stream until it is drained or lost."""

    def __init__(
        self, settings: AgentSettings, engine: Engine, wire: Wire, calls: Calls, heartbeat_seconds: int
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._wire = wire
        self._calls = calls
        self._interval = float(heartbeat_seconds) if heartbeat_seconds > 0 else HEARTBEAT
        self._outbox = Outbox()
        self._slots = trio.CapacityLimiter(settings.capacity)
        self._jobs: dict[str, Job] = {}
        self._idle = trio.Event()
        self._idle.set()
        self._accepting = True
        self._results_count = True
        self._heard: float | None = None
        self._lost: str | None = None
        self._confirmed = False
        self._half_closed = False

    async def run(self, draining: trio.Event) -> bool:
        """Returns after a drain: whether the server confirmed everything. SessionLostError when the stream broke."""
        opened = trio.current_time()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._outbox.put_first(_heartbeat(0))
            nursery.start_soon(self._guarded, self._send)
            nursery.start_soon(self._guarded, self._receive)
            nursery.start_soon(self._beat)
            nursery.start_soon(self._drain, draining)
        if self._lost is not None:
            lived = (self._heard or opened) - opened
            raise SessionLostError(self._lost, stood=lived >= SETTLED)
        return self._confirmed

    async def _guarded(self, loop: object) -> None:
        """Runs a loop that speaks to the server; when the wire breaks, the session is lost."""
        try:
            await loop()  # type: ignore[operator]
        except WireError as error:
            self._lose(str(error))

    def _lose(self, reason: str) -> None:
        if self._lost is None and not self._confirmed:
            self._lost = reason
        self._outbox.close()
        self._nursery.cancel_scope.cancel()

    async def _send(self) -> None:
        while (frames := await self._outbox.take()) is not None:
            await self._wire.send(frames)
        await self._wire.half_close()
        self._half_closed = True

    async def _receive(self) -> None:
        while (message := await self._wire.receive()) is not None:
            self._heard = trio.current_time()
            kind = message.WhichOneof("kind")
            if kind == "assign":
                self._assign(message.assign)
            elif kind == "cancel":
                self._cancel(message.cancel)
        if not self._half_closed:
            self._lose("the server ended the session")
            return
        self._confirmed = True
        self._nursery.cancel_scope.cancel()

    async def _beat(self) -> None:
        """Heartbeats, and a look whether the server still answers them."""
        opened = trio.current_time()
        while True:
            await trio.sleep(self._interval)
            self._outbox.put_first(_heartbeat(len(self._jobs)))
            silent = trio.current_time() - (self._heard or opened)
            if silent > SILENCE * self._interval:
                self._lose(f"the server has not answered for {silent:.0f} s")

    def _assign(self, assignment: JobAssignment) -> None:
        """Starts a job, unless it runs already (3.2) or must not be taken."""
        log = _log.bind(run_id=assignment.run_id, job_id=assignment.job_id)
        if not assignment.run_id or not assignment.job_id:
            log.warning("assignment without ids ignored")
        elif not self._accepting:
            log.warning("assignment ignored: this agent is draining")
        elif assignment.job_id in self._jobs:
            log.warning("assignment ignored: the job is running already")
        elif len(self._jobs) >= self._settings.capacity + WAITING_JOBS:
            log.warning("assignment ignored: too many jobs are waiting already", jobs=len(self._jobs))
        else:
            job = Job(assignment, self._engine, self._settings.workspace_root, self._outbox, self._calls)
            self._jobs[assignment.job_id] = job
            self._idle = trio.Event() if self._idle.is_set() else self._idle
            self._nursery.start_soon(self._run_job, assignment, job)

    def _cancel(self, cancel: CancelJob) -> None:
        job = self._jobs.get(cancel.job_id)
        _log.info("cancel", run_id=cancel.run_id, job_id=cancel.job_id, reason=cancel.reason, running=job is not None)
        if job is not None:
            job.cancel(cancel.reason)

    async def _run_job(self, assignment: JobAssignment, job: Job) -> None:
        log = _log.bind(run_id=assignment.run_id, job_id=assignment.job_id)
        try:
            log.info("job taken", name=assignment.name)
            result = await job.run(self._slots)
            log.info("job ended", exit_code=result.exit_code, error=result.error)
            await self._outbox.room()
            if self._results_count:
                self._outbox.put(frame(AgentMessage(result=result)))
        finally:
            del self._jobs[assignment.job_id]
            if not self._jobs:
                self._idle.set()

    async def _drain(self, draining: trio.Event) -> None:
        """Waits for the word, then ends the session in the order of 3.2."""
        await draining.wait()
        settings = self._settings
        self._accepting = False
        self._outbox.put_first(frame(AgentMessage(draining=Draining())))
        _log.info("draining", jobs=len(self._jobs), budget_seconds=settings.drain_budget)
        with trio.move_on_after(max(settings.drain_budget, 0.0)):
            await self._idle.wait()
        if self._jobs:
            # A failure that is only the agent's stop must not be taken for the job's: without a result the server
            # repeats the job.
            _log.warning("drain budget exceeded; jobs are stopped and left to the server", jobs=len(self._jobs))
            self._results_count = False
            for job in self._jobs.values():
                job.cancel("the agent is stopping")
            with trio.move_on_after(CLEAN_UP):
                await self._idle.wait()
        self._outbox.close()
        with trio.move_on_after(settings.drain_flush_timeout):
            await trio.sleep_forever()  # the receiver ends it all when the server confirms
        _log.warning("the server did not confirm in time that it stored everything")
        self._nursery.cancel_scope.cancel()


def _heartbeat(running: int) -> bytes:
    heartbeat = Heartbeat(running_jobs=running)
    heartbeat.at.GetCurrentTime()
    return frame(AgentMessage(heartbeat=heartbeat))
