"""The HTTP/2 side of grpclib, bounded and made quick: what any peer may send ends at its own connection.

grpclib 0.4.9 has no limit on messages, handles one DATA frame and one message at a time through an asyncio queue, and
lets exceptions out of `data_received`, which under trio-asyncio would end the whole process. Replaced here are its
receive buffer and its protocol's `data_received`; requests, trailers and flow control stay grpclib's and h2's.
Nothing here knows an agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import grpclib.protocol
import grpclib.server
import structlog
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamReset, UnknownFrameReceived
from h2.exceptions import FrameTooLargeError, ProtocolError
from h2.settings import SettingCodes

MAX_MESSAGE = 8 * 1024 * 1024
"""Largest message taken, in bytes; a larger one ends its call with RESOURCE_EXHAUSTED."""
MAX_FRAME = 16384
"""Largest HTTP/2 frame, as in the protocol's defaults; a larger one ends the connection."""
MAX_STREAMS = 32
"""Calls at a time on one connection; h2 refuses more."""
MAX_CONNECTIONS = 4096
MAX_RESETS = 200
"""Calls that a peer may cancel on one connection in its life: agents cancel none ("rapid reset" does nothing else)."""
MAX_CONTROL_FRAMES = 10_000
"""Frames without data that may come in a row: pings, settings, empty frames. Heartbeats are data, every 30 s."""
MAX_UNSENT = 1024 * 1024
"""Bytes that may wait for a peer that does not read (answers to a flood of pings); more ends its connection."""
CLOSE_SECONDS = 5.0
"""How long a closed connection may take to get its last bytes out."""

_PREFACE_BYTES = 24
_FRAME_HEADER = struct.Struct(">HBBBI")
_MESSAGE_HEADER = struct.Struct(">BI")
_log = structlog.get_logger(__name__)


class FrameMerger:
    """Rewrites what comes from the wire: DATA frames of one stream that follow each other become one larger frame.

    It means the same, flow control included, and spares h2 its work for every frame of a peer that sends one small
    message per frame: 100-byte lines come in a hundredth of the frames. Only plain DATA frames (no padding, no end of
    stream) are touched. What is not a whole frame yet is held back, at most one frame.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._preface = _PREFACE_BYTES
        self._control_frames = 0

    def feed(self, data: bytes) -> bytes:
        """Takes bytes as they came, gives the bytes for h2. Raises h2's ProtocolError."""
        out: list[bytes] = []
        if self._preface:
            out.append(data[: self._preface])
            data = data[self._preface :]
            self._preface -= len(out[0])
        if self._rest:
            data = self._rest + data
        position = 0
        total = len(data)
        run: list[bytes] = []
        run_stream = run_size = 0
        unpack = _FRAME_HEADER.unpack_from
        while position + 9 <= total:
            high, low, kind, flags, stream = unpack(data, position)
            size = high << 8 | low
            if size > MAX_FRAME:
                # h2 would collect all of it before it looks at the size.
                raise FrameTooLargeError(f"a frame of {size} bytes: the limit is {MAX_FRAME}")
            end = position + 9 + size
            if end > total:
                break
            if kind == 0 and size:
                self._control_frames = 0
            else:
                self._control_frames += 1
                if self._control_frames > MAX_CONTROL_FRAMES:
                    raise ProtocolError("a flood of frames without data")
            if kind == 0 and flags == 0:
                if run and (stream != run_stream or run_size + size > MAX_FRAME):
                    _flush(out, run, run_stream, run_size)
                    run, run_size = [], 0
                run_stream = stream
                run.append(data[position + 9 : end])
                run_size += size
            else:
                if run:
                    _flush(out, run, run_stream, run_size)
                    run, run_size = [], 0
                out.append(data[position:end])
            position = end
        if run:
            _flush(out, run, run_stream, run_size)
        self._rest = data[position:]
        return b"".join(out)


def _flush(out: list[bytes], run: list[bytes], stream: int, size: int) -> None:
    out.append(_FRAME_HEADER.pack(size >> 8, size & 0xFF, 0, 0, stream))
    out.extend(run)


class MessageBuffer:
    """What came on one stream, cut into messages. Takes the place of `grpclib.protocol.Buffer`.

    Bytes count as received, for flow control, when they are taken for reading: a reader that stops reading stops the
    peer after one window.
    """

    def __init__(self, ack: Callable[[int], None]) -> None:
        self._ack = ack
        self._unread: deque[tuple[bytes, int]] = deque()
        self._parts: list[bytes] = []
        self._size = 0
        self._position = 0
        self._need = _MESSAGE_HEADER.size
        self._eof = False
        self._more = asyncio.Event()

    # What grpclib's protocol calls.

    def add(self, data: bytes, ack_size: int) -> None:
        """Bytes of a DATA frame that counts `ack_size` for flow control."""
        self._unread.append((data, ack_size))
        self._more.set()

    def eof(self) -> None:
        """The peer has closed its side."""
        self._eof = True
        self._more.set()

    def unacked_size(self) -> int:
        """What the peer was not told of yet; the stream is over."""
        size = sum(ack for _, ack in self._unread)
        self._unread.clear()
        return size

    # What our handlers call.

    async def messages(self, limit: int) -> list[bytes] | None:
        """At least one and at most `limit` messages, in order; None when the peer has closed its side.

        Raises GRPCError: RESOURCE_EXHAUSTED for a message over MAX_MESSAGE, UNIMPLEMENTED for a compressed one,
        INVALID_ARGUMENT for one that is cut short by the end of the stream.
        """
        while True:
            if self._size >= self._need and (found := self._cut(limit)):
                return found
            if self._unread:
                self._take()
            elif self._eof:
                if self._size:
                    raise GRPCError(Status.INVALID_ARGUMENT, "the stream ends in the middle of a message")
                return None
            else:
                self._more.clear()
                await self._more.wait()

    def _take(self) -> None:
        taken = 0
        for data, ack_size in self._unread:
            self._parts.append(data)
            self._size += len(data)
            taken += ack_size
        self._unread.clear()
        self._ack(taken)

    def _cut(self, limit: int) -> list[bytes]:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        start = position = self._position
        end_of_data = start + self._size
        found: list[bytes] = []
        need = _MESSAGE_HEADER.size
        unpack = _MESSAGE_HEADER.unpack_from
        while len(found) < limit and position + 5 <= end_of_data:
            compressed, length = unpack(data, position)
            if compressed:
                raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not supported")
            if length > MAX_MESSAGE:
                raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a message of {length} bytes: the limit is {MAX_MESSAGE}")
            end = position + 5 + length
            if end > end_of_data:
                need += length
                break
            found.append(data[position + 5 : end])
            position = end
        self._need = need
        self._size = end_of_data - position
        # Cut off what was read only when it is most of it, so that a large buffer is not copied again and again.
        if position > len(data) // 2:
            data, position = data[position:], 0
        self._parts = [data] if self._size else []
        self._position = position if self._size else 0
        return found


class _Connection(grpclib.protocol.Connection):
    def create_stream(self, *, stream_id: int | None = None, wrapper: Any = None) -> grpclib.protocol.Stream:
        stream = super().create_stream(stream_id=stream_id, wrapper=wrapper)
        assert stream_id is not None
        # All that grpclib asks of a buffer is there; what it does not ask is not.
        stream.buffer = cast("grpclib.protocol.Buffer", MessageBuffer(partial(self.ack, stream_id)))
        return stream

    def ack(self, stream_id: int, size: int) -> None:
        # A handler may be a step behind the end of its connection.
        if not self.is_closing():
            super().ack(stream_id, size)


class BoundedProtocol(grpclib.protocol.H2Protocol):
    """One connection. Anything unexpected on it closes it, and only it."""

    def __init__(self, owner: BoundedServer, *args: Any) -> None:
        super().__init__(*args)
        self._owner = owner
        self._merger = FrameMerger()
        self._resets = 0
        self._transport: asyncio.Transport | None = None
        self.idle_since = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        grpclib.protocol._set_nodelay(transport.get_extra_info("socket"))
        h2 = H2Connection(config=self.h2_config)
        h2.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = MAX_STREAMS
        h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = self.config.http2_stream_window_size
        h2.local_settings.acknowledge()
        h2.initiate_connection()
        h2.increment_flow_control_window(self.config.http2_connection_window_size - 65535)
        self.connection = _Connection(h2, transport, config=self.config)
        self.connection.flush()
        self.connection.initialize()
        self.processor = grpclib.protocol.EventsProcessor(self.handler, self.connection)
        # Frames of unknown types are to be ignored (RFC 9113, 4.1); grpclib raises.
        self.processor.processors[UnknownFrameReceived] = _ignore
        self._owner.connections.add(self)
        if len(self._owner.connections) > MAX_CONNECTIONS:
            self.close("too many connections")

    def data_received(self, data: bytes) -> None:
        # Everything is caught: an exception from here would go to the event loop and end the process.
        try:
            events = self.connection.feed(self._merger.feed(data))
            self.connection.flush()
            for event in events:
                if isinstance(event, StreamReset):
                    self._count_reset()
                self.processor.process(event)
            self._flush()
        except Exception as error:
            # On a protocol error h2 has prepared a GOAWAY frame that says why.
            with contextlib.suppress(Exception):
                self._flush()
            self.close(f"{type(error).__name__}: {error}"[:200])

    def connection_lost(self, exc: BaseException | None) -> None:
        self._owner.connections.discard(self)
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """Whether no call is open on this connection."""
        return not self.processor.streams

    def close(self, reason: str, *, abort: bool = False) -> None:
        """Ends the connection and its calls. What is unsent has CLOSE_SECONDS to go, or is dropped by `abort`."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            _log.info("agent connection closed", reason=reason, peer=str(transport.get_extra_info("peername")))
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, transport.abort)
        self.processor.close(reason)
        if transport is not None and abort:
            transport.abort()

    def _count_reset(self) -> None:
        self._resets += 1
        if self._resets > MAX_RESETS:
            raise ConnectionError("too many calls were cancelled")

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self.connection.flush()
        if transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()
            raise ConnectionError("the peer does not read")


def _ignore(event: object) -> None:
    pass


class BoundedServer(grpclib.server.Server):
    """A grpclib server whose connections are BoundedProtocols."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[BoundedProtocol] = set()
        self._h2_config = H2Configuration(
            client_side=False,
            header_encoding="ascii",
            validate_inbound_headers=True,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )

    def _protocol_factory(self) -> BoundedProtocol:
        self.__gc_step__()
        handler = grpclib.server.Handler(self._mapping, self._codec, self._status_details_codec, self.__dispatch__)
        self._handlers.add(handler)
        return BoundedProtocol(self, handler, self._config, self._h2_config)

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert isinstance(self._server, asyncio.Server)
        return int(self._server.sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """No new connections; open ones go on."""
        if self._server is not None:
            self._server.close()

    def close_idle(self, after: float) -> None:
        """Closes connections that have had no call open for `after` seconds: an agent always has one."""
        now = asyncio.get_running_loop().time()
        for connection in tuple(self.connections):
            if not connection.idle:
                connection.idle_since = now
            elif now - connection.idle_since > after:
                connection.close("no call for a while")

    def close_connections(self, reason: str) -> None:
        """Ends every connection and every call that is still open, at once: the process is about to end."""
        for connection in tuple(self.connections):
            connection.close(reason, abort=True)


def messages_of(stream: grpclib.server.Stream[Any, Any]) -> MessageBuffer:
    """The receive side of a call, for handlers: used instead of `recv_message`."""
    return cast("MessageBuffer", stream._stream.buffer)
