"""The calls of jobs, made over whichever session with the server stands: jobs may outlive sessions.

A call that did not reach a server is made again. What the calls mean is calls.py, how they travel is wire.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import tenacity
import trio
from google.protobuf.message import Message

from gocdnext.agent.calls import CallError
from gocdnext.agent.wire import WireError
from gocdnext.proto.agent_pb2 import (
    ArtifactUploadTicket,
    MarkCacheReadyRequest,
    RequestArtifactUploadRequest,
    RequestCacheGetRequest,
    RequestCacheGetResponse,
    RequestCachePutRequest,
    RequestCachePutResponse,
)

PATIENCE = 90.0
"""Seconds for one call with all its tries; a server that is restarted comes back within it."""
ANSWER = 30.0
"""Seconds for one answer."""
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0

_AWAY = frozenset({"", "UNAVAILABLE"})


class Line(Protocol):
    """What a session offers for calls."""

    session_id: str

    async def call(self, method: str, request: Any) -> Any:
        """Makes one call. WireError."""


class ServerCalls:
    """See Calls. `use` says which session stands; None for none, then calls wait."""

    def __init__(self) -> None:
        self._line: Line | None = None
        self._standing = trio.Event()

    def use(self, line: Line | None) -> None:
        """From now on."""
        self._line = line
        if line is not None:
            self._standing.set()
        elif self._standing.is_set():
            self._standing = trio.Event()

    async def artifact_tickets(self, run_id: str, job_id: str, paths: Sequence[str]) -> list[ArtifactUploadTicket]:
        """See Calls."""
        request = RequestArtifactUploadRequest(run_id=run_id, job_id=job_id, paths=paths)
        return list((await self._call("RequestArtifactUpload", request)).tickets)

    async def find_cache(self, run_id: str, job_id: str, key: str) -> RequestCacheGetResponse:
        """See Calls."""
        request = RequestCacheGetRequest(run_id=run_id, job_id=job_id, key=key)
        return cast("RequestCacheGetResponse", await self._call("RequestCacheGet", request))

    async def offer_cache(self, run_id: str, job_id: str, key: str) -> RequestCachePutResponse:
        """See Calls."""
        request = RequestCachePutRequest(run_id=run_id, job_id=job_id, key=key)
        return cast("RequestCachePutResponse", await self._call("RequestCachePut", request))

    async def cache_ready(self, cache_id: str, size: int, sha256: str) -> None:
        """See Calls."""
        await self._call(
            "MarkCacheReady", MarkCacheReadyRequest(cache_id=cache_id, size_bytes=size, content_sha256=sha256)
        )

    async def _call(self, method: str, request: Message) -> Any:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_NotReachedError),
            wait=tenacity.wait_random_exponential(multiplier=2 * FIRST_WAIT, min=FIRST_WAIT, max=LONGEST_WAIT),
            sleep=trio.sleep,
        )
        try:
            with trio.fail_after(PATIENCE):
                return await retrying(self._once, method, request)
        except trio.TooSlowError:
            raise CallError(f"the server could not be reached within {PATIENCE:.0f} s") from None

    async def _once(self, method: str, request: Any) -> Any:
        while (line := self._line) is None:
            await self._standing.wait()
        request.session_id = line.session_id
        try:
            with trio.fail_after(ANSWER):
                return await line.call(method, request)
        except trio.TooSlowError:
            raise CallError(f"the server did not answer {method} within {ANSWER:.0f} s") from None
        except WireError as error:
            if error.status in _AWAY or self._line is not line:  # an old session is not known any more
                raise _NotReachedError from error
            raise CallError(str(error), error.status) from error


class _NotReachedError(Exception):
    """The call may be made again."""
