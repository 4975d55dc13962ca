"""Register, step by step (protocol-agent 2.2). asyncio side; no gRPC stream in here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog
import trio_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.fleet.credentials import matches_hash, matches_token, token_hash
from gocdnext.fleet.ports import Runs
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.session import Session
from gocdnext.proto import agent_pb2 as pb

HEARTBEAT_SECONDS = 30
MAX_NAME = 253
MAX_TOKEN = 4096
MAX_FIELD = 256
MAX_TAGS = 64
MAX_CAPACITY = 1024
CANCEL_REASON = "user canceled"

_SQL = queries.load("fleet")
_log = structlog.get_logger(__name__)


class Registration:
    """Answers Register calls."""

    def __init__(
        self,
        db: Database,
        runs: Runs,
        registry: Registry,
        *,
        registration_token: str | None,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db = db
        self._runs = runs
        self._registry = registry
        self._registration_token = registration_token
        self._clock = clock
        self._new_id = new_id

    async def register(self, request: pb.RegisterRequest) -> pb.RegisterResponse:
        """A new session for an agent that shows its token, or the registration token under a new name.

        Raises GRPCError INVALID_ARGUMENT, NOT_FOUND, UNAUTHENTICATED; DatabaseUnavailableError.
        """
        _check(request)
        agent_id = await self._identify(request)
        self._registry.supersede(agent_id)
        cancels = await trio_asyncio.trio_as_aio(self._runs.pending_cancels)(agent_id)
        await trio_asyncio.trio_as_aio(self._runs.reclaim)(agent_id)
        session = await self._bring_online(agent_id, request)
        self._registry.add(session)
        # They are over for the server; should the agent have kept them against the protocol, it is told.
        for run_id, job_id in cancels:
            session.cancel(run_id, job_id, CANCEL_REASON)
        _log.info("agent registered", agent=request.agent_id, agent_id=str(agent_id), generation=session.generation)
        return pb.RegisterResponse(session_id=session.id, heartbeat_seconds=HEARTBEAT_SECONDS)

    async def _identify(self, request: pb.RegisterRequest) -> UUID:
        row = await self._db.aio_run(lambda conn: conn.fetchrow(_SQL.agent_by_name, request.agent_id))
        if row is None:
            return await self._create(request)
        if not matches_hash(request.token, row["token_hash"]):
            raise GRPCError(Status.UNAUTHENTICATED, "the agent token is wrong")
        agent_id: UUID = row["id"]
        return agent_id

    async def _create(self, request: pb.RegisterRequest) -> UUID:
        if not matches_token(request.token, self._registration_token):
            raise GRPCError(
                Status.NOT_FOUND, "no agent of this name: create it, or register it with the registration token"
            )
        agent_id = self._new_id()
        made = await self._db.aio_run(
            lambda conn: conn.fetchrow(
                _SQL.insert_agent, agent_id, request.agent_id, token_hash(request.token), self._clock()
            )
        )
        # Somebody else took the name in between: then that row's token decides.
        return agent_id if made is not None else await self._identify(request)

    async def _bring_online(self, agent_id: UUID, request: pb.RegisterRequest) -> Session:
        now = self._clock()
        capacity = min(max(request.capacity, 1), MAX_CAPACITY)
        tags = list(dict.fromkeys(request.tags))
        row = await self._db.aio_run(
            lambda conn: conn.fetchrow(
                _SQL.mark_online,
                agent_id,
                request.version,
                request.os,
                request.arch,
                tags,
                capacity,
                request.engine,
                now,
            )
        )
        if row is None:
            raise GRPCError(Status.NOT_FOUND, "the agent was deleted")
        return Session(
            id=str(self._new_id()),
            agent_id=agent_id,
            name=request.agent_id,
            tags=frozenset(tags),
            capacity=capacity,
            engine=request.engine,
            generation=row["session_generation"],
            seen=now,
            disabled=row["disabled"],
        )


def _check(request: pb.RegisterRequest) -> None:
    """Raises GRPCError INVALID_ARGUMENT for what is missing or over a limit."""
    if not request.agent_id or not request.token:
        raise GRPCError(Status.INVALID_ARGUMENT, "agent_id and token are required")
    limits = (
        ("agent_id", request.agent_id, MAX_NAME),
        ("token", request.token, MAX_TOKEN),
        ("version", request.version, MAX_FIELD),
        ("os", request.os, MAX_FIELD),
        ("arch", request.arch, MAX_FIELD),
        ("engine", request.engine, MAX_FIELD),
        *(("tag", tag, MAX_FIELD) for tag in request.tags[: MAX_TAGS + 1]),
    )
    for name, value, limit in limits:
        if len(value) > limit:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{name} is longer than {limit} characters")
        if "\0" in value:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{name} has a NUL character")
    if len(request.tags) > MAX_TAGS:
        raise GRPCError(Status.INVALID_ARGUMENT, f"more than {MAX_TAGS} tags")
