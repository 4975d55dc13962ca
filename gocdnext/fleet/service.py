"""The six calls of the agent service (protocol-agent 1.1), thin: who is it, hand over, answer. asyncio side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpclib.server
import structlog
from google.protobuf.message import DecodeError, Message
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.fleet.conversation import Conversations
from gocdnext.fleet.ports import FleetMetrics
from gocdnext.fleet.register import Registration
from gocdnext.fleet.registry import Registry
from gocdnext.fleet.tickets import Tickets
from gocdnext.fleet.wire import messages_of
from gocdnext.proto import agent_pb2 as pb
from gocdnext.proto.agent_grpc import AgentServiceBase
from gocdnext.tracing import doing

SESSION_HEADER = "x-gocdnext-session"
REQUEST_SECONDS = 30.0
"""How long a unary request may take to arrive and be answered."""

M = TypeVar("M", bound=Message)
Stream = grpclib.server.Stream[Any, Any]
_log = structlog.get_logger(__name__)


class AgentService(AgentServiceBase):
    """What agents can call."""

    def __init__(
        self,
        registration: Registration,
        conversations: Conversations,
        tickets: Tickets,
        registry: Registry,
        metrics: FleetMetrics,
    ) -> None:
        self._registration = registration
        self._conversations = conversations
        self._tickets = tickets
        self._registry = registry
        self._metrics = metrics

    async def Register(self, stream: Stream) -> None:
        await self._call(stream, self._register(stream))

    async def Connect(self, stream: Stream) -> None:
        await self._call(stream, self._connect(stream), bounded=False)

    async def RequestCacheGet(self, stream: Stream) -> None:
        await self._call(stream, _answer(stream, pb.RequestCacheGetRequest, self._tickets.cache_get))

    async def RequestCachePut(self, stream: Stream) -> None:
        await self._call(stream, _answer(stream, pb.RequestCachePutRequest, self._tickets.cache_put))

    async def MarkCacheReady(self, stream: Stream) -> None:
        await self._call(stream, _answer(stream, pb.MarkCacheReadyRequest, self._tickets.cache_ready))

    async def RequestArtifactUpload(self, stream: Stream) -> None:
        await self._call(stream, _answer(stream, pb.RequestArtifactUploadRequest, self._tickets.artifact_upload))

    async def _register(self, stream: Stream) -> None:
        request = await _receive_one(stream, pb.RegisterRequest)
        await stream.send_message(await self._registration.register(request))

    async def _connect(self, stream: Stream) -> None:
        ids = stream.metadata.getall(SESSION_HEADER, []) if stream.metadata is not None else []
        if len(ids) != 1:
            raise GRPCError(Status.UNAUTHENTICATED, f"Connect needs one {SESSION_HEADER} header: register first")
        await self._conversations.hold(self._registry.claim(str(ids[0])), stream)

    async def _call(self, stream: Stream, work: Awaitable[None], *, bounded: bool = True) -> None:
        """One call, in the log and in traces. A stream may last for weeks: it is no span, what happens in it is."""
        method = stream._method_name.rpartition("/")[2]
        self._metrics.rpc_started(method)
        with doing(f"agent.{method}", rpc=method) if bounded else structlog.contextvars.bound_contextvars(rpc=method):
            await self._counted(method, work, bounded=bounded)

    async def _counted(self, method: str, work: Awaitable[None], *, bounded: bool) -> None:
        """Counts the call, and is the one table from what goes wrong inside to gRPC status codes."""
        started = time.monotonic()
        code = "Canceled"
        try:
            async with asyncio.timeout(REQUEST_SECONDS if bounded else None):
                await work
            code = "OK"
        except GRPCError as error:
            code = _code_name(error.status)
            raise
        except DatabaseUnavailableError as error:
            code = _code_name(Status.UNAVAILABLE)
            raise GRPCError(Status.UNAVAILABLE, "the database is not available: try again") from error
        except TimeoutError as error:
            code = _code_name(Status.DEADLINE_EXCEEDED)
            raise GRPCError(Status.DEADLINE_EXCEEDED, "the request took too long") from error
        except Exception as error:
            code = _code_name(Status.INTERNAL)
            _log.exception("agent call failed", method=method)
            raise GRPCError(Status.INTERNAL, "internal error") from error
        finally:
            self._metrics.rpc_handled(method, code, time.monotonic() - started if bounded else None)


async def _answer(stream: Stream, kind: type[M], work: Callable[[M], Awaitable[Message]]) -> None:
    await stream.send_message(await work(await _receive_one(stream, kind)))


async def _receive_one(stream: Stream, kind: type[M]) -> M:
    """The one message of a unary call. Raises GRPCError INVALID_ARGUMENT."""
    messages = await messages_of(stream).messages(1)
    if not messages:
        raise GRPCError(Status.INVALID_ARGUMENT, "the request is missing")
    try:
        return kind.FromString(messages[0])
    except DecodeError:
        raise GRPCError(Status.INVALID_ARGUMENT, f"not a {kind.DESCRIPTOR.name}") from None


def _code_name(status: Status) -> str:
    """The name as grpc-go writes it in metrics: `InvalidArgument`."""
    return "OK" if status is Status.OK else status.name.title().replace("_", "")
