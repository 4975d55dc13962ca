"""Finds jobs that run by the book and nowhere else: the database gives them to an agent whose session knows nothing of
them. That is left when two servers had a session of one agent for a moment, or an agent ignored what it was sent.
"""

from __future__ import annotations

from uuid import UUID

import structlog

from gocdnext.fleet.ports import Runs
from gocdnext.fleet.registry import Registry

_log = structlog.get_logger(__name__)
Missing = tuple[str, UUID, int]
"""Session, job, attempt."""


class Forgotten:
    """Takes such jobs back when two looks in a row have found them: a claim is in the database a moment before the
    session has it, and a result a moment after."""

    def __init__(self, runs: Runs, registry: Registry) -> None:
        self._runs = runs
        self._registry = registry
        self._missing: frozenset[Missing] = frozenset()

    async def look(self) -> int:
        """One look at the sessions of this server; how many jobs were taken back. Raises DatabaseUnavailableError."""
        sessions = {session.agent_id: session for session in self._registry.ready()}
        missing: set[Missing] = set()
        taken = 0
        rows = await self._runs.running(sessions.keys()) if sessions else []
        for agent_id, run_id, job_id, attempt in rows:
            session = sessions[agent_id]
            held = session.held.get(str(job_id))
            if held is not None and held.target.attempt == attempt:
                continue
            if (session.id, job_id, attempt) not in self._missing:
                missing.add((session.id, job_id, attempt))
                continue
            _log.warning("the agent does not have this job", agent=session.name, job_id=str(job_id), attempt=attempt)
            await self._runs.forgotten(agent_id, run_id, job_id, attempt)
            taken += 1
        self._missing = frozenset(missing)
        return taken
