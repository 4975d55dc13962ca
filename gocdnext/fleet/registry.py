"""The sessions of this process: who is connected, who has room. In memory only, as the protocol has it.

Implements `runs.ports.Fleet`. All calls are synchronous and may come from the trio and the asyncio side (one thread).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.fleet.session import Held, Phase, Session
from gocdnext.runs.assignment import Assignment
from gocdnext.runs.ports import Slot


class Registry:
    """At most one live session per agent.

    `on_ready` is called when a session begins to take work, `on_slot_free` when an assignment is over; `address` adds to
    an assignment what is only known when it is sent: links to what is to be fetched, credentials of repositories. `held`
    says why nobody gets work at this moment; empty when they do.
    """

    def __init__(
        self,
        on_ready: Callable[[], None],
        on_slot_free: Callable[[], None],
        address: Callable[[Assignment], Assignment] | None = None,
        held: Callable[[], str] = str,
    ) -> None:
        self._on_ready = on_ready
        self._on_slot_free = on_slot_free
        self._address = address
        self._held = held
        self._by_id: dict[str, Session] = {}
        self._by_agent: dict[UUID, Session] = {}

    # -- runs.ports.Fleet ----------------------------------------------------------------------------

    def slots(self) -> tuple[Slot, ...]:
        """The sessions that take work, ordered by agent name; those without room among them have `free` 0."""
        takers = sorted((session for session in self.ready() if session.takes_work), key=lambda session: session.name)
        held = self._held()
        return tuple(Slot(s.agent_id, s.id, s.name, s.tags, s.free, s.capacity, held) for s in takers)

    def open_to(self) -> list[frozenset[str]]:
        """The tags of each session with a free slot."""
        if self._held():
            return []
        return [session.tags for session in self.ready() if session.takes_work and session.free]

    def freed(self, agent_id: UUID, job_id: UUID) -> Slot | None:
        """The one slot that the end of this job frees; None when the session takes no more work, and while another one
        has room: which of the two a job gets is decided with both in sight."""
        session = self._by_agent.get(agent_id)
        if session is None or not session.takes_work or str(job_id) not in session.held or self._held():
            return None
        if any(other is not session and other.takes_work and other.free for other in self.ready()):
            return None
        return Slot(session.agent_id, session.id, session.name, session.tags, 1, session.capacity)

    def assign(self, session_id: str, assignment: Assignment) -> bool:
        """Records and sends an assignment; False when the session is gone, full, draining, disabled or stuck."""
        session = self._by_id.get(session_id)
        if self._address is not None:
            assignment = self._address(assignment)
        return session is not None and session.assign(assignment)

    def cancel(self, agent_id: UUID, run_id: UUID, job_id: UUID, reason: str) -> bool:
        """Tells the agent to stop the job; False when this process has no session of it."""
        session = self._by_agent.get(agent_id)
        if session is None or session.phase is Phase.OVER:
            return False
        session.cancel(run_id, job_id, reason)
        return True

    def release(self, agent_id: UUID, job_id: UUID) -> None:
        """Forgets an assignment that ended without a result of the session."""
        session = self._by_agent.get(agent_id)
        if session is not None and session.release(str(job_id)):
            self._on_slot_free()

    # -- word of other rooms and servers ---------------------------------------------------------------

    def clean_up(self, run_id: UUID, generation: int) -> None:
        """The services of a run may go: tells every ready agent whose engine keeps some."""
        for session in self.ready():
            session.clean_up(run_id, generation)

    def told(self, agent_id: UUID, disabled: bool) -> None:
        """An operator has disabled or enabled the agent, here or at another server."""
        if (session := self._by_agent.get(agent_id)) is not None:
            self.set_disabled(session, disabled)

    # -- sessions ------------------------------------------------------------------------------------

    def supersede(self, agent_id: UUID) -> None:
        """Ends the agent's session, because it registers anew (protocol-agent 2.2 step 4)."""
        if (session := self._by_agent.get(agent_id)) is not None:
            session.end(Status.ABORTED, "the session was superseded: the agent registered again", superseded=True)
            self.remove(session)

    def add(self, session: Session) -> None:
        """Takes a session in. Of two registrations at once the one with the newer generation stays."""
        other = self._by_agent.get(session.agent_id)
        if other is not None and other.generation > session.generation:
            session.end(Status.ABORTED, "the session was superseded: the agent registered again", superseded=True)
            return
        self.supersede(session.agent_id)
        self._by_id[session.id] = session
        self._by_agent[session.agent_id] = session

    def find(self, session_id: str) -> Session:
        """The live session of that id. Raises GRPCError UNAUTHENTICATED."""
        session = self._by_id.get(session_id)
        if session is None or session.phase is Phase.OVER:
            raise GRPCError(Status.UNAUTHENTICATED, "the session is unknown or over: register again")
        return session

    def claim(self, session_id: str) -> Session:
        """The session for its one Connect. Raises GRPCError UNAUTHENTICATED or ALREADY_EXISTS."""
        session = self.find(session_id)
        if session.phase is not Phase.REGISTERED:
            raise GRPCError(Status.ALREADY_EXISTS, "the session is connected already")
        session.phase = Phase.CONNECTED
        return session

    def make_ready(self, session: Session) -> None:
        """From now on the session may get work. Raises GRPCError when it was ended in between."""
        if session.ending is not None:
            raise GRPCError(*session.ending)
        session.phase = Phase.READY
        self._on_ready()

    def finished(self, session: Session, held: Held) -> None:
        """An attempt's result is stored. A newer attempt of the same job, assigned meanwhile, stays."""
        if session.held.get(held.job_id) is held and session.release(held.job_id):
            self._on_slot_free()

    def set_disabled(self, session: Session, disabled: bool) -> None:
        """Takes over what the operator said of the agent."""
        freed = session.disabled and not disabled
        session.disabled = disabled
        if freed:
            self._on_ready()

    def remove(self, session: Session) -> None:
        """Forgets a session; its id is not valid any more."""
        session.phase = Phase.OVER
        if self._by_id.get(session.id) is session:
            del self._by_id[session.id]
        if self._by_agent.get(session.agent_id) is session:
            del self._by_agent[session.agent_id]

    # -- views, also for the metrics -------------------------------------------------------------------

    def sessions(self) -> tuple[Session, ...]:
        """All live sessions."""
        return tuple(self._by_id.values())

    def ready(self) -> Iterator[Session]:
        """The sessions whose stream is open and in order (`gocdnext_agents_online` counts them)."""
        return (session for session in self._by_id.values() if session.phase is Phase.READY)
