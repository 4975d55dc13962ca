"""What a job asks of the server beside its stream: where artifacts and caches go, and where they are (protocol-agent 1.1).

The wire implements it; `run-local` has no server and never asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gocdnext.agent.failures import DeliveryError
from gocdnext.proto.agent_pb2 import ArtifactUploadTicket, RequestCacheGetResponse, RequestCachePutResponse


class CallError(DeliveryError):
    """The server said no, or could not be reached; the text is for the user. `status` is gRPC's name for it, or empty."""

    def __init__(self, message: str, status: str = "") -> None:
        super().__init__(message)
        self.status = status


class Calls(Protocol):
    """Each raises CallError."""

    async def artifact_tickets(self, run_id: str, job_id: str, paths: Sequence[str]) -> list[ArtifactUploadTicket]:
        """Where the archives of these paths are to be put; one ticket for each."""

    async def find_cache(self, run_id: str, job_id: str, key: str) -> RequestCacheGetResponse:
        """Where the cache of this key is, if there is one."""

    async def offer_cache(self, run_id: str, job_id: str, key: str) -> RequestCachePutResponse:
        """Where the cache of this key is to be put. It cannot be found until `cache_ready`."""

    async def cache_ready(self, cache_id: str, size: int, sha256: str) -> None:
        """The cache lies where it was to be put."""
