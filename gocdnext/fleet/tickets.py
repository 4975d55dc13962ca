"""Tickets for artifacts and caches: what an agent may upload and fetch (protocol-agent 2.7, 2.8). asyncio side.

Given for jobs that the session holds, and for no others. The status codes are those of protocol-agent 1.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.blobs import artifacts, caches
from gocdnext.blobs.artifacts import Attempt
from gocdnext.blobs.links import Links
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.session import Session
from gocdnext.proto import agent_pb2 as pb
from gocdnext.runs.assignment import Assignment

MAX_PATHS = 1000
"""Paths in one request for uploads."""
MAX_PATH = 1024
"""Characters of an artifact's path."""
MAX_KEY = 1024
"""Bytes of a cache key (protocol-agent 3.10)."""
_NOT_YOURS = "the job is not assigned to this agent"

_SQL = queries.load("blobs")


class _OfJob(Protocol):
    """What the three requests that are made for a job have in common."""

    session_id: str
    run_id: str
    job_id: str


class Tickets:
    """Answers the four calls. Each raises GRPCError and DatabaseUnavailableError."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        links: Links,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db = db
        self._registry = registry
        self._links = links
        self._clock = clock
        self._new_id = new_id

    async def artifact_upload(self, request: pb.RequestArtifactUploadRequest) -> pb.RequestArtifactUploadResponse:
        """A ticket for each distinct path, in the order and spelling of the request."""
        _check_job(request)
        _check_paths(request.paths)
        attempt = await self._attempt(request)
        paths, now = artifacts.distinct(request.paths), self._clock()
        response = pb.RequestArtifactUploadResponse()
        if not paths:
            return response
        keys = await self._db.aio_transaction(
            lambda conn: artifacts.open_uploads(conn, attempt, paths, now, self._new_id)
        )
        if not keys:
            raise GRPCError(Status.PERMISSION_DENIED, _NOT_YOURS)
        for path in paths:
            if path not in keys:
                raise GRPCError(Status.FAILED_PRECONDITION, f"{path} was delivered already")
            link = self._links.upload(keys[path], now)
            ticket = response.tickets.add(path=path, storage_key=keys[path], put_url=link.url)
            ticket.expires_at.FromDatetime(link.expires_at)
        return response

    async def cache_get(self, request: pb.RequestCacheGetRequest) -> pb.RequestCacheGetResponse:
        """Where the content of a key is, or that there is none."""
        _check_job(request)
        _check_key(request.key)
        attempt, now = await self._attempt(request), self._clock()
        found = await self._db.aio_run(lambda conn: caches.find(conn, attempt.run_id, request.key, now))
        if found is None:
            return pb.RequestCacheGetResponse(found=False)
        link = self._links.download(found.storage_key, now)
        response = pb.RequestCacheGetResponse(
            found=True, get_url=link.url, size_bytes=found.size, content_sha256=found.sha256
        )
        response.expires_at.FromDatetime(link.expires_at)
        return response

    async def cache_put(self, request: pb.RequestCachePutRequest) -> pb.RequestCachePutResponse:
        """A ticket for new content of a key. Readers have the old one until `cache_ready`."""
        _check_job(request)
        _check_key(request.key)
        attempt, now = await self._attempt(request), self._clock()
        opened = await self._db.aio_run(lambda conn: caches.open_upload(conn, attempt, request.key, now, self._new_id))
        if opened is None and await self._db.aio_run(lambda conn: conn.fetchval(_SQL.is_from_fork, attempt.run_id)):
            raise GRPCError(Status.PERMISSION_DENIED, "what a fork proposes writes no caches")
        if opened is None:
            raise GRPCError(Status.PERMISSION_DENIED, _NOT_YOURS)
        upload_id, storage_key = opened
        link = self._links.upload(storage_key, now)
        response = pb.RequestCachePutResponse(cache_id=str(upload_id), put_url=link.url, storage_key=storage_key)
        response.expires_at.FromDatetime(link.expires_at)
        return response

    async def cache_ready(self, request: pb.MarkCacheReadyRequest) -> pb.MarkCacheReadyResponse:
        """The upload of a job of this session becomes the content of its key, if it is what the agent says it is."""
        upload_id = _uuid("cache_id", request.cache_id)
        _check_session(request.session_id)
        session = self._registry.find(request.session_id)

        async def work(conn: Connection) -> None:
            made = await caches.upload(conn, upload_id)
            if made is None:
                raise GRPCError(Status.NOT_FOUND, "there is no such upload of a cache")
            if session.superseded or str(made.job_id) not in session.held:
                raise GRPCError(Status.PERMISSION_DENIED, "another agent's job uploads this cache")
            if made.ready:
                return
            _check_content(made, request)
            await caches.make_ready(conn, made, self._clock())

        await self._db.aio_transaction(work)
        return pb.MarkCacheReadyResponse()

    async def _attempt(self, request: _OfJob) -> Attempt:
        """The attempt that the session holds of the job. Raises GRPCError for every other job."""
        session: Session = self._registry.find(request.session_id)
        run_id, job_id = UUID(request.run_id), UUID(request.job_id)
        held = session.owns(str(run_id), str(job_id))
        if held is not None:
            return Attempt(run_id, job_id, session.agent_id, held.target.attempt)
        if await self._db.aio_run(lambda conn: conn.fetchval(_SQL.job_exists, job_id, run_id)):
            raise GRPCError(Status.PERMISSION_DENIED, _NOT_YOURS)
        raise GRPCError(Status.NOT_FOUND, "there is no such job in this run")


def addressed(assignment: Assignment, links: Links, now: datetime) -> Assignment:
    """The assignment with links to what it fetches, which last from now on."""
    if not assignment.downloads:
        return assignment
    downloads = (replace(entry, url=links.download(entry.storage_key, now).url) for entry in assignment.downloads)
    return replace(assignment, downloads=tuple(downloads))


def _check_job(request: _OfJob) -> None:
    _uuid("run_id", request.run_id)
    _uuid("job_id", request.job_id)
    _check_session(request.session_id)


def _check_session(session_id: str) -> None:
    if not session_id:
        raise GRPCError(Status.INVALID_ARGUMENT, "session_id is required")


def _check_paths(paths: Sequence[str]) -> None:
    """Raises GRPCError for what can be no path below a workspace: nobody could unpack it where it belongs."""
    if len(paths) > MAX_PATHS:
        raise GRPCError(Status.INVALID_ARGUMENT, f"{len(paths)} paths: the limit is {MAX_PATHS}")
    for path in paths:
        if not path.rstrip("/"):
            raise GRPCError(Status.INVALID_ARGUMENT, "paths has an empty element")
        if len(path) > MAX_PATH or "\0" in path:
            raise GRPCError(Status.INVALID_ARGUMENT, f"a path has at most {MAX_PATH} characters and no NUL")
        if path.startswith("/") or ".." in path.split("/"):
            raise GRPCError(Status.INVALID_ARGUMENT, f"{path[:256]} does not lie below the workspace")


def _check_key(key: str) -> None:
    """Raises GRPCError for what no expanded key can be: a token that is still in it was not expanded."""
    if not key or len(key.encode()) > MAX_KEY or "\0" in key:
        raise GRPCError(Status.INVALID_ARGUMENT, f"key must have 1 to {MAX_KEY} bytes and no NUL")
    if "{{" in key:
        raise GRPCError(Status.INVALID_ARGUMENT, "key has a token that was not expanded")


def _check_content(made: caches.Upload, request: pb.MarkCacheReadyRequest) -> None:
    if made.content is None:
        raise GRPCError(Status.FAILED_PRECONDITION, "nothing was uploaded yet")
    said = request.content_sha256.lower()
    if made.content.size != request.size_bytes or said not in ("", made.content.sha256):
        raise GRPCError(Status.FAILED_PRECONDITION, "what was uploaded has another size or hash")


def _uuid(name: str, value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise GRPCError(Status.INVALID_ARGUMENT, f"{name} is not a UUID") from None
