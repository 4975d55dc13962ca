"""Leases: an agent's process keeps its jobs through a break of its stream, for so long and no longer. Pure.

    Register ──► session ═══ break ┄┄┄┄┄┄┄┄┄┄ Register with the secret ──► the next session, the same jobs
                                   │                                        (on this server, or on another of the database)
                                   ├─ lease over ───► the agent stops its jobs by itself
                                   └─ reaper ───────► the server gives them to others, never before that

Who comes back is known by the agent's token and by the secret of the lease, of which the database has the hash. What
it says that it runs is only compared with what the database says that it was given.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from gocdnext.auth.agent_tokens import matches_hash, token_hash
from gocdnext.proto import agent_pb2 as pb
from gocdnext.runs.service import LEASE_LAG, STALE_AFTER

LEASE_SECONDS = 75
"""Long enough for a server that is away for a minute; short enough that the reaper need not wait longer than for
other agents: with LEASE_LAG it is STALE_AFTER."""
HEARTBEAT_SECONDS = 10
"""Between two heartbeats under a lease; with the server's pause between two writes it is LEASE_LAG at most."""
MAX_SECRET = 256
MAX_ATTEMPTS = 4096


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows of an agent when it registers."""

    id: UUID
    token_hash: str
    generation: int = 0
    last_seen: datetime | None = None
    lease_hash: str = ""
    lease_seconds: int = 0

    def is_back(self, request: pb.LeaseRequest, now: datetime) -> bool:
        """Whether this is the process that has the agent's lease, and still in time."""
        if self.last_seen is None or not matches_hash(request.secret, self.lease_hash):
            return False
        return now - self.last_seen < max(STALE_AFTER, timedelta(seconds=self.lease_seconds) + LEASE_LAG)


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as the server gives it. `secret` is empty for an agent that has none."""

    secret: str = ""
    seconds: int = 0
    resumed: bool = False

    @property
    def hash(self) -> str:
        """What is stored of the secret."""
        return token_hash(self.secret) if self.secret else ""

    @property
    def heartbeat_seconds(self) -> int:
        """What the agent is told under this lease: short leases want more heartbeats."""
        return max(1, min(HEARTBEAT_SECONDS, self.seconds // 6))


def grant(known: Known, request: pb.RegisterRequest, seconds: int, now: datetime) -> Grant:
    """The lease for a registration: none, a new one, or the one that the agent has already."""
    if not seconds or not request.HasField("lease") or not request.log_batches:
        return Grant()
    if known.is_back(request.lease, now):
        return Grant(request.lease.secret, seconds, resumed=True)
    return Grant(secrets.token_urlsafe(32), seconds)


def attempts(request: pb.LeaseRequest) -> frozenset[tuple[UUID, int]]:
    """What the agent says that it has, as (job, attempt); ids that are none are nothing that it was given."""
    found = set()
    for attempt in request.attempts:
        try:
            found.add((UUID(attempt.job_id), attempt.attempt))
        except ValueError:
            continue
    return frozenset(found)
