"""Keeps a session with the server: register, connect, and again after a loss. What happens on a stream is session.py.

    registered ──► connected ──► lost ──► registered with the secret of the lease: the jobs have gone on
                                  │
                                  ├─ no lease (a server of the field): the jobs are stopped, the server repeats them
                                  └─ the lease is over before a server answers: the same

"Answers" is a heartbeat that was answered; the lease counts from the moment at which that one was sent, so that the
agent stops its jobs before any server gives them to another.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
import tenacity
import trio
import trio_asyncio

from gocdnext.agent.activity import Activity
from gocdnext.agent.config import AgentSettings
from gocdnext.agent.engines import Engine
from gocdnext.agent.outbox import Outbox
from gocdnext.agent.server_calls import ServerCalls
from gocdnext.agent.session import Session, SessionLostError
from gocdnext.agent.wire import RefusedError, WireError, dial
from gocdnext.agent.work import Work
from gocdnext.proto.agent_pb2 import LeaseRequest, RegisterResponse

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds before the next try: at least the first, growing to at most the second, spread at random so that a
restarted server is not met by all its agents at once."""
LONGEST_WAIT_UNDER_LEASE = 2.0
CLEAN_UP = 30.0
"""Seconds that jobs killed by a drain get to remove their directories."""

_log = structlog.get_logger("gocdnext.agent")


@dataclass(slots=True, eq=False)
class _Lease:
    """Until when the jobs may run without word from a server."""

    secret: str
    seconds: float
    until: float


class Client:
    """`run` until drained; `drain` ends it, from any other task or a signal."""

    def __init__(self, settings: AgentSettings, engine: Engine, activity: Activity | None = None) -> None:
        self._settings = settings
        self._activity = activity or Activity()
        self._engine = engine
        self._outbox = Outbox()
        self._draining = trio.Event()
        self._calls = ServerCalls()
        self._session: Session | None = None
        self._lease: _Lease | None = None
        self._leased = trio.Event()
        self._ready = False
        self._confirmed = True
        self._scope = trio.CancelScope()

    def drain(self) -> None:
        """No new jobs; running ones get the drain budget. With nothing to do or to tell it ends at once
        (protocol-agent 3.2)."""
        self._draining.set()
        if self._session is None and self._lease is None:
            self._scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> bool:
        """Serves until drained. Ready when the first session stands. Returns False when results may be lost, because
        the connection broke while draining. Raises RefusedError when the server does not accept this agent."""
        refused: RefusedError | None = None
        with self._scope:
            async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
                self._work = Work(
                    self._settings,
                    self._engine,
                    self._outbox,
                    self._calls,
                    nursery,
                    self._activity,
                    accept_no_more=self._accept_no_more,
                    drain=self._draining.set,
                )
                nursery.start_soon(self._fence)
                nursery.start_soon(self._drain)
                try:
                    await self._keep(task_status)
                except RefusedError as error:
                    refused = error  # raised below: the nursery would wrap it
                nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused
        return self._confirmed

    async def _keep(self, task_status: trio.TaskStatus[None]) -> None:
        """One session after the other, until one is confirmed or it makes no sense to go on."""
        slow = tenacity.wait_random_exponential(multiplier=2 * FIRST_WAIT, min=FIRST_WAIT, max=LONGEST_WAIT)
        quick = tenacity.wait_random_exponential(
            multiplier=2 * FIRST_WAIT, min=FIRST_WAIT, max=LONGEST_WAIT_UNDER_LEASE
        )
        async for attempt in tenacity.AsyncRetrying(
            wait=lambda state: slow(state) if self._lease is None else quick(state),
            retry=tenacity.retry_if_exception_type(SessionLostError),
            before_sleep=_tell,
            sleep=trio.sleep,
        ):
            with attempt:
                try:
                    await self._serve(task_status)
                except SessionLostError as lost:
                    if self._is_over(lost):
                        return
                    if lost.stood:
                        attempt.retry_state.attempt_number = 1  # it was a good session: begin with short waits again
                    raise

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        """One session: from Register to its end."""
        settings = self._settings
        if self._lease is None:
            await self._work.idle()
        try:
            async with dial(settings) as wire:
                asked, lease = trio.current_time(), self._lease
                registered = await wire.register(
                    LeaseRequest(secret=lease.secret, attempts=self._work.attempts()) if lease else LeaseRequest()
                )
                await self._agree(registered, lease, asked)
                async with wire.connect(registered.session_id):
                    self._session = Session(
                        wire, self._outbox, self._work, registered.heartbeat_seconds, self._answered
                    )
                    self._activity.session_began()
                    self._calls.use(wire)
                    _log.info("connected", server=f"{settings.host}:{settings.port}", agent=settings.name)
                    if not self._ready:
                        self._ready = True
                        task_status.started()
                    await self._session.run()
        except WireError as error:
            raise SessionLostError(str(error), stood=False) from error
        finally:
            self._calls.use(None)
            self._session = None
            self._activity.session_ended()
            self._outbox.rewind()
            if self._lease is None:
                self._let_go("the connection to the server is lost")

    async def _agree(self, registered: RegisterResponse, asked_with: _Lease | None, asked: float) -> None:
        """What the server's answer means for the jobs there are. WireError when it came too late for them."""
        granted = registered.lease if registered.log_batches and registered.lease.seconds > 0 else None
        if granted is not None and granted.resumed:
            if asked_with is None or self._lease is not asked_with:
                raise WireError("the lease was over before the server answered")
            self._work.keep_only({(attempt.job_id, attempt.attempt) for attempt in granted.kept})
            asked_with.seconds = float(granted.seconds)
            self._answered(asked)
            _log.info("session resumed", jobs=len(granted.kept))
            return
        self._let_go("the server has given the jobs to others")
        self._outbox.begin(keeps=granted is not None, batches=registered.log_batches)
        if granted is not None:
            self._lease = _Lease(granted.secret, float(granted.seconds), asked + granted.seconds)
            self._leased.set()
        await self._work.idle()

    def _answered(self, asked: float) -> None:
        """A server has answered what was sent at `asked`."""
        if self._lease is not None:
            self._lease.until = max(self._lease.until, asked + self._lease.seconds)

    def _let_go(self, reason: str) -> None:
        """The jobs are not this agent's any more; nor is anything that waits to be sent of them."""
        self._lease = None
        if self._draining.is_set() and not self._outbox.empty:
            self._confirmed = False
        self._work.take_away(reason)
        self._outbox.begin(keeps=False, batches=False)

    async def _fence(self) -> None:
        """Stops the jobs when the lease is over without word from a server: by now others may have them."""
        while True:
            while (lease := self._lease) is not None:
                await trio.sleep_until(lease.until)
                if self._lease is lease and trio.current_time() >= lease.until:
                    _log.warning("no word from a server within the lease", seconds=lease.seconds)
                    self._let_go("the lease is over")
                    if self._session is not None:
                        self._session.lose("the lease is over")
            self._leased = trio.Event()
            await self._leased.wait()

    # ---- the end -----------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Waits for the word, then ends the work in the order of 3.2."""
        await self._draining.wait()
        settings = self._settings
        if self._work.accepting:
            self._accept_no_more()
        _log.info("draining", jobs=self._work.running, budget_seconds=settings.drain_budget)
        with trio.move_on_after(max(settings.drain_budget, 0.0)):
            await self._work.idle()
        if self._work.running:
            _log.warning("drain budget exceeded; jobs are stopped and left to the server", jobs=self._work.running)
            self._work.stop("the agent is stopping")
            with trio.move_on_after(CLEAN_UP):
                await self._work.idle()
        self._outbox.close()
        if self._session is None and self._outbox.empty:
            self._scope.cancel()
        with trio.move_on_after(settings.drain_flush_timeout):
            await trio.sleep_forever()  # ended from outside when the server confirms
        _log.warning("the server did not confirm in time that it stored everything")
        self._confirmed = False
        self._scope.cancel()

    def _accept_no_more(self) -> None:
        """The server hears it before anything else, so that it gives new jobs to others."""
        self._work.accepting = False
        if self._session is not None:
            self._session.say_draining()

    def _is_over(self, lost: SessionLostError) -> bool:
        """Whether a loss is the end: this agent is draining, and nothing is left that another session could save."""
        if not self._draining.is_set():
            return False
        if self._lease is not None and (self._work.running or not self._outbox.empty):
            return False
        self._confirmed = self._lease is not None
        if not self._confirmed:
            _log.error("connection lost while draining; the server repeats what it missed", why=str(lost))
        return True


def _tell(state: tenacity.RetryCallState) -> None:
    reason = state.outcome.exception() if state.outcome is not None else None
    wait = state.next_action.sleep if state.next_action is not None else 0.0
    _log.warning("no session with the server; trying again", why=str(reason), wait_seconds=round(wait, 1))
