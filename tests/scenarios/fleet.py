"""A fleet whose agents do what a scenario says: it keeps what was assigned and cancelled, and sends nothing anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from gocdnext.runs.assignment import Assignment
from gocdnext.runs.ports import Slot


@dataclass
class ScriptedAgent:
    """One connected agent and the jobs it has."""

    id: UUID
    name: str
    tags: frozenset[str]
    capacity: int
    jobs: dict[UUID, Assignment] = field(default_factory=dict)


@dataclass
class ScriptedFleet:
    """Implements `gocdnext.runs.ports.Fleet`. `refuse` makes sending fail, as with a full queue."""

    agents: dict[UUID, ScriptedAgent] = field(default_factory=dict)
    sent: list[Assignment] = field(default_factory=list)
    cancels: list[UUID] = field(default_factory=list)
    refuse: bool = False

    def slots(self) -> tuple[Slot, ...]:
        return tuple(
            Slot(a.id, str(a.id), a.name, a.tags, a.capacity - len(a.jobs), a.capacity)
            for a in sorted(self.agents.values(), key=lambda a: a.name)
        )

    def open_to(self) -> list[frozenset[str]]:
        return [slot.tags for slot in self.slots() if slot.free]

    def freed(self, agent_id: UUID, job_id: UUID) -> Slot | None:
        agent = self.agents.get(agent_id)
        if agent is None or job_id not in agent.jobs:
            return None
        if any(slot.free and slot.agent_id != agent_id for slot in self.slots()):
            return None
        return Slot(agent.id, str(agent.id), agent.name, agent.tags, 1, agent.capacity)

    def assign(self, session_id: str, assignment: Assignment) -> bool:
        agent = self.agents.get(UUID(session_id))
        if agent is None or self.refuse:
            return False
        agent.jobs[assignment.job_id] = assignment
        self.sent.append(assignment)
        return True

    def cancel(self, agent_id: UUID, run_id: UUID, job_id: UUID, reason: str) -> bool:
        self.cancels.append(job_id)
        return agent_id in self.agents

    def release(self, agent_id: UUID, job_id: UUID) -> None:
        if agent_id in self.agents:
            self.agents[agent_id].jobs.pop(job_id, None)

    def holder(self, job_id: UUID) -> ScriptedAgent | None:
        """The agent that has the job now."""
        return next((agent for agent in self.agents.values() if job_id in agent.jobs), None)
