"""Keeps a session with the server: register, connect, and again after a loss. What happens in one is session.py."""

from __future__ import annotations

import structlog
import tenacity
import trio
import trio_asyncio

from gocdnext.agent.config import AgentSettings
from gocdnext.agent.engines import Engine
from gocdnext.agent.server_calls import ServerCalls
from gocdnext.agent.session import Session, SessionLostError
from gocdnext.agent.wire import RefusedError, WireError, dial

FIRST_WAIT, LONGEST_WAIT = 0.2, 30.0
"""Seconds before the next try: at least the first, growing to at most the second, spread at random so that a
restarted server is not met by all its agents at once."""

_log = structlog.get_logger("gocdnext.agent")


class Client:
    """`run` until drained; `drain` ends it, from any other task or a signal."""

    def __init__(self, settings: AgentSettings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._draining = trio.Event()
        self._calls = ServerCalls()
        self._session: Session | None = None
        self._ready = False
        self._scope = trio.CancelScope()

    def drain(self) -> None:
        """No new jobs; running ones get the drain budget. Without a session it ends at once (protocol-agent 3.2)."""
        self._draining.set()
        if self._session is None:
            self._scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> bool:
        """Serves until drained. Ready when the first session stands. Returns False when results may be lost, because
        the connection broke while draining. Raises RefusedError when the server does not accept this agent."""
        retrying = tenacity.AsyncRetrying(
            wait=tenacity.wait_random_exponential(multiplier=2 * FIRST_WAIT, min=FIRST_WAIT, max=LONGEST_WAIT),
            retry=tenacity.retry_if_exception_type(SessionLostError),
            before_sleep=_tell,
            sleep=trio.sleep,
        )
        refused: RefusedError | None = None
        confirmed = True
        with self._scope:
            async with trio_asyncio.open_loop():
                try:
                    confirmed = await self._keep(retrying, task_status)
                except RefusedError as error:
                    refused = error  # raised below: the loop's nursery would wrap it
        if refused is not None:
            raise refused
        return confirmed

    async def _keep(self, retrying: tenacity.AsyncRetrying, task_status: trio.TaskStatus[None]) -> bool:
        async for attempt in retrying:
            with attempt:
                try:
                    await self._serve(task_status)
                except SessionLostError as lost:
                    if self._draining.is_set():
                        _log.error("connection lost while draining; the server repeats what it missed", why=str(lost))
                        return False
                    if lost.stood:
                        attempt.retry_state.attempt_number = 1  # it was a good session: begin with short waits again
                    raise
        return True

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        settings = self._settings
        try:
            async with dial(settings) as wire:
                registered = await wire.register()
                async with wire.connect(registered.session_id):
                    self._session = Session(settings, self._engine, wire, self._calls, registered.heartbeat_seconds)
                    self._calls.use(wire)
                    _log.info("connected", server=f"{settings.host}:{settings.port}", agent=settings.name)
                    if not self._ready:
                        self._ready = True
                        task_status.started()
                    await self._session.run(self._draining)
        except WireError as error:
            raise SessionLostError(str(error), stood=False) from error
        finally:
            self._calls.use(None)
            self._session = None


def _tell(state: tenacity.RetryCallState) -> None:
    reason = state.outcome.exception() if state.outcome is not None else None
    wait = state.next_action.sleep if state.next_action is not None else 0.0
    _log.warning("no session with the server; trying again", why=str(reason), wait_seconds=round(wait, 1))
