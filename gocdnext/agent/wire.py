"""The gRPC side of a session: grpclib, which lives on asyncio, seen from trio. The only module that knows grpclib.

Every method is one crossing between trio and asyncio (about half a millisecond), so `send` takes many messages.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import trio
import trio_asyncio
from google.protobuf.message import DecodeError, Message
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

import gocdnext
from gocdnext.agent.config import AgentSettings
from gocdnext.proto.agent_grpc import AgentServiceStub
from gocdnext.proto.agent_pb2 import LeaseRequest, RegisterRequest, RegisterResponse, ServerMessage

DIAL_TIMEOUT = 10.0
"""Seconds for the TCP connection and Register together."""

_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
_REFUSED = {
    Status.NOT_FOUND: "does not know an agent named {name!r} and does not accept the token for a new one",
    Status.UNAUTHENTICATED: "knows {name!r}, but not with this token",
    Status.INVALID_ARGUMENT: "refuses the name or the token as malformed",
}


class WireError(Exception):
    """The connection is not there, broke, or was ended by the server. Trying again later makes sense."""

    @property
    def status(self) -> str:
        """gRPC's name of the status that the server answered with; empty when it did not answer."""
        return self.__cause__.status.name if isinstance(self.__cause__, GRPCError) else ""


class RefusedError(Exception):
    """The server does not want this agent as it is configured. The text says what to do."""


class _Leave(Exception):
    """Leaves a stream without waiting for its end."""


@contextlib.asynccontextmanager
async def dial(settings: AgentSettings) -> AsyncIterator[Wire]:
    """A channel to the server; the connection is made by the first call. Needs a trio-asyncio loop around it."""

    async def make() -> Channel:
        return Channel(settings.host, settings.port)

    channel = await trio_asyncio.aio_as_trio(make)()
    try:
        yield Wire(channel, settings)
    finally:
        channel.close()


class Wire:
    """Register, then Connect, then frames out and messages in."""

    def __init__(self, channel: Channel, settings: AgentSettings) -> None:
        self._stub = AgentServiceStub(channel)
        self._settings = settings
        self._stream: Any = None
        self.session_id = ""

    async def register(self, lease: LeaseRequest) -> RegisterResponse:
        """A new session; `lease` is what the agent has from earlier ones. RefusedError when name or token is wrong,
        WireError for everything else."""
        settings = self._settings
        request = RegisterRequest(
            agent_id=settings.name,
            token=settings.token,
            version=gocdnext.__version__,
            os="linux",
            arch=_ARCH.get(platform.machine(), platform.machine()),
            tags=settings.tags,
            capacity=settings.capacity,
            engine=settings.engine,
            log_batches=True,
            lease=lease,
        )
        try:
            with _translated(), trio.fail_after(DIAL_TIMEOUT):
                return cast("RegisterResponse", await trio_asyncio.aio_as_trio(self._stub.Register)(request))
        except trio.TooSlowError:
            raise WireError(f"no answer within {DIAL_TIMEOUT:.0f} s") from None
        except WireError as error:
            status = getattr(error.__cause__, "status", None)
            if status in _REFUSED:
                what = _REFUSED[status].format(name=settings.name)
                raise RefusedError(
                    f"the server at {settings.host}:{settings.port} {what}; "
                    "check GOCDNEXT_AGENT_NAME and GOCDNEXT_AGENT_TOKEN"
                ) from error
            raise

    @contextlib.asynccontextmanager
    async def connect(self, session_id: str) -> AsyncIterator[None]:
        """The stream of the session, for as long as the context lasts."""
        self.session_id = session_id
        call = self._stub.Connect.open(metadata={"x-gocdnext-session": session_id})
        with contextlib.suppress(_Leave), _translated():
            async with trio_asyncio.aio_as_trio(call) as stream:
                await trio_asyncio.aio_as_trio(stream.send_request)()
                self._stream = stream
                yield
                raise _Leave  # else grpclib waits for the server's status; whoever wants it has called `receive`

    async def call(self, method: str, request: Message) -> Any:
        """One of the unary calls that jobs make. WireError, whose status says what the server said."""
        with _translated():
            return await trio_asyncio.aio_as_trio(getattr(self._stub, method))(request)

    async def send(self, frames: bytes) -> None:
        """Sends whole frames, as many as there are. Waits while HTTP/2 flow control says so."""
        with _translated():
            await trio_asyncio.aio_as_trio(_send_frames)(self._stream, frames)

    async def half_close(self) -> None:
        """Tells the server that nothing more comes (protocol-agent 1.6)."""
        with _translated():
            await trio_asyncio.aio_as_trio(self._stream.end)()

    async def receive(self) -> ServerMessage | None:
        """The next message; None when the server ended the stream with status OK. WireError for any other end."""
        with _translated():
            return cast("ServerMessage | None", await trio_asyncio.aio_as_trio(_receive)(self._stream))


async def _send_frames(stream: Any, frames: bytes) -> None:
    """Runs on asyncio. grpclib's public way is one call, one HTTP/2 frame and one system call per message, which
    bounds an agent to some 10,000 lines a second. Its own send_message does exactly this, for one message."""
    with stream._wrapper:  # wakes this call with an error when the stream breaks
        await stream._stream.send_data(frames)


async def _receive(stream: Any) -> ServerMessage | None:
    """Runs on asyncio. At the end of the stream asks for the status, which raises GRPCError unless it is OK."""
    message = await stream.recv_message()
    if message is None:
        if not stream._end_done:
            await stream.end()
        await stream.recv_trailing_metadata()
    return cast("ServerMessage | None", message)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The one table from what grpclib and its ground may raise to WireError."""
    try:
        yield
    except GRPCError as error:
        raise WireError(f"{error.status.name}: {error.message or 'no message'}") from error
    except (StreamTerminatedError, ProtocolError, H2Error, DecodeError) as error:
        raise WireError(str(error) or type(error).__name__) from error
    except (OSError, AssertionError, NotImplementedError) as error:
        # AssertionError and NotImplementedError: grpclib met a truncated or a compressed message.
        raise WireError(str(error) or type(error).__name__) from error
