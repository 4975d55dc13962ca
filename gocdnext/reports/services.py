"""Services of runs: what agents say of them, and whose clean-up is still to be confirmed (spec-execution 16)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Database

STATUSES = frozenset({"starting", "ready", "stopped", "failed"})
MAX_NAME, MAX_IMAGE, MAX_POD, MAX_ERROR = 64, 512, 256, 4096
"""Characters (protocol-agent 2.5)."""
LEFT_FOR = timedelta(days=1)
"""How long an agent that comes back is told of services that nobody has confirmed to be gone."""
LEFT_RUNS = 64
"""Of how many runs it is told, oldest first."""

_SQL = queries.load("reports")


@dataclass(frozen=True, slots=True)
class Change:
    """What an agent says of a service."""

    run_id: UUID
    agent_id: UUID
    name: str
    image: str
    pod_name: str
    status: str
    error: str
    at: datetime
    holds_job: bool
    """Whether the agent's session has a job of the run."""

    @property
    def fits(self) -> bool:
        """Whether it is within the limits of the protocol."""
        return (
            0 < len(self.name) <= MAX_NAME
            and len(self.image) <= MAX_IMAGE
            and len(self.pod_name) <= MAX_POD
            and self.status in STATUSES
            and "\0" not in self.name + self.image + self.pod_name
        )


async def keep(db: Database, new_id: UUID, change: Change) -> bool:
    """Keeps a change; False for an unknown run, or one that the agent has nothing to do with."""
    stored = await db.fetchval(
        _SQL.service_changed,
        new_id,
        change.run_id,
        change.agent_id,
        change.name,
        change.image,
        change.pod_name,
        change.status,
        change.error.replace("\0", "")[:MAX_ERROR],
        change.at,
        change.holds_job,
    )
    return stored is not None


async def of_run(db: Database, run_id: UUID) -> list[asyncpg.Record]:
    """The services of a run by name; none for an unknown run."""
    return await db.fetch(_SQL.services_of_run, run_id)


async def left(db: Database, now: datetime) -> list[tuple[UUID, int]]:
    """(run, generation) of finished runs whose services nobody has confirmed to be gone."""
    rows = await db.fetch(_SQL.services_left, now - LEFT_FOR, LEFT_RUNS)
    return [(row["id"], row["service_generation"]) for row in rows]


async def cleaned(db: Database, run_id: UUID, generation: int) -> None:
    """An agent has confirmed that the services of a run are gone, up to a generation."""
    await db.execute(_SQL.services_cleaned, run_id, generation)
