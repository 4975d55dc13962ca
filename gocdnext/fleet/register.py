"""Register, step by step (protocol-agent 2.2). asyncio side; no gRPC stream in here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog
import trio_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.auth import words
from gocdnext.auth.agent_tokens import matches_hash, matches_token, token_hash
from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.fleet import lease
from gocdnext.fleet.lease import Grant, Known
from gocdnext.fleet.ports import Runs
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.session import CLEANING_ENGINES, Session
from gocdnext.logs.ingest import Target
from gocdnext.proto import agent_pb2 as pb
from gocdnext.reports import services

HEARTBEAT_SECONDS = 30
MAX_NAME = 253
MAX_TOKEN = 4096
MAX_FIELD = 256
MAX_TAGS = 64
MAX_CAPACITY = 1024
CANCEL_REASON = "user canceled"

_SQL = queries.load("fleet")
_LOGS = queries.load("logs")
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
        lease_seconds: int,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db = db
        self._runs = runs
        self._registry = registry
        self._registration_token = registration_token
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._new_id = new_id

    async def register(self, request: pb.RegisterRequest) -> pb.RegisterResponse:
        """A new session for an agent that shows its token, or the registration token under a new name. One that comes
        back within its lease goes on with its jobs; of any other the jobs are taken back.

        Raises GRPCError INVALID_ARGUMENT, NOT_FOUND, UNAUTHENTICATED, ABORTED; DatabaseUnavailableError.
        """
        _check(request)
        known = await self._identify(request)
        granted = lease.grant(known, request, self._lease_seconds, self._clock())
        self._registry.supersede(known.id)
        session = await self._bring_online(known, request, granted)
        # Before its jobs are looked at: who cancels one from now on finds the session.
        self._registry.add(session)
        answer = pb.RegisterResponse(session_id=session.id, heartbeat_seconds=HEARTBEAT_SECONDS)
        answer.log_batches = session.log_batches
        if granted.resumed:
            answer.lease.kept.extend(await self._resume(session, request.lease))
        else:
            await self._start_afresh(session)
        if session.engine in CLEANING_ENGINES:
            for run_id, generation in await trio_asyncio.trio_as_aio(services.left)(self._db, self._clock()):
                session.clean_up(run_id, generation)
        if granted.secret:
            answer.heartbeat_seconds = granted.heartbeat_seconds
            answer.lease.seconds, answer.lease.secret = granted.seconds, granted.secret
            answer.lease.resumed = granted.resumed
        _log.info(
            "agent came back" if granted.resumed else "agent registered",
            agent=request.agent_id,
            agent_id=str(known.id),
            generation=session.generation,
            jobs=len(session.held),
        )
        return answer

    async def _start_afresh(self, session: Session) -> None:
        cancels = await trio_asyncio.trio_as_aio(self._runs.pending_cancels)(session.agent_id)
        await trio_asyncio.trio_as_aio(self._runs.reclaim)(session.agent_id)
        # They are over for the server; should the agent have kept them against the protocol, it is told.
        for run_id, job_id in cancels:
            session.cancel(run_id, job_id, CANCEL_REASON)

    async def _resume(self, session: Session, request: pb.LeaseRequest) -> list[pb.Attempt]:
        """Gives the session what is still the agent's of what it has; the rest of it is to be stopped."""
        has = lease.attempts(request)
        held = await trio_asyncio.trio_as_aio(self._runs.resume)(session.agent_id, has)
        rows = await self._db.aio_run(lambda conn: conn.fetch(_LOGS.newest_seqs, [job.job_id for job in held]))
        newest = {row["id"]: row["seq"] or 0 for row in rows}
        kept = []
        for job in held:
            session.hold(Target(job.run_id, job.job_id, job.attempt), newest[job.job_id])
            kept.append(pb.Attempt(run_id=str(job.run_id), job_id=str(job.job_id), attempt=job.attempt))
            if job.cancel:
                session.cancel(job.run_id, job.job_id, CANCEL_REASON)
        return kept

    async def _identify(self, request: pb.RegisterRequest) -> Known:
        row = await self._db.aio_run(lambda conn: conn.fetchrow(_SQL.agent_by_name, request.agent_id))
        if row is None:
            return await self._create(request)
        known = Known(*row.values())
        if not matches_hash(request.token, known.token_hash):
            raise GRPCError(Status.UNAUTHENTICATED, "the agent token is wrong")
        return known

    async def _create(self, request: pb.RegisterRequest) -> Known:
        if not matches_token(request.token, self._registration_token):
            raise GRPCError(
                Status.NOT_FOUND, "no agent of this name: create it, or register it with the registration token"
            )
        agent_id, hashed = self._new_id(), token_hash(request.token)
        made = await self._db.aio_run(
            lambda conn: conn.fetchrow(_SQL.insert_agent, agent_id, request.agent_id, hashed, self._clock())
        )
        # Somebody else took the name in between: then that row's token decides.
        return Known(agent_id, hashed) if made is not None else await self._identify(request)

    async def _bring_online(self, known: Known, request: pb.RegisterRequest, granted: Grant) -> Session:
        now = self._clock()
        capacity = min(max(request.capacity, 1), MAX_CAPACITY)
        tags = list(dict.fromkeys(request.tags))
        row = await self._db.aio_run(
            lambda conn: conn.fetchrow(
                _SQL.mark_online,
                known.id,
                request.version,
                request.os,
                request.arch,
                tags,
                capacity,
                request.engine,
                now,
                granted.hash,
                granted.seconds,
                known.generation if granted.resumed else None,
            )
        )
        if row is None:
            # Of a fresh registration the row can only be gone; one that comes back may also have met another.
            if not granted.resumed:
                raise GRPCError(Status.NOT_FOUND, "the agent was deleted")
            raise GRPCError(Status.ABORTED, "the agent registered twice at the same time: try again")
        return Session(
            id=str(self._new_id()),
            agent_id=known.id,
            name=request.agent_id,
            tags=frozenset(tags),
            capacity=capacity,
            engine=request.engine,
            generation=row["session_generation"],
            seen=now,
            disabled=row["disabled"],
            log_batches=request.log_batches,
            leased=bool(granted.secret),
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
        if not words.is_one_line(value):
            raise GRPCError(Status.INVALID_ARGUMENT, f"{name} has a control character")
    if len(request.lease.secret) > lease.MAX_SECRET or len(request.lease.attempts) > lease.MAX_ATTEMPTS:
        raise GRPCError(Status.INVALID_ARGUMENT, "the lease is none of this server's")
    if len(request.tags) > MAX_TAGS:
        raise GRPCError(Status.INVALID_ARGUMENT, f"more than {MAX_TAGS} tags")
