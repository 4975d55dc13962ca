"""Serving the application: hypercorn under trio on a listening socket of ours.

The socket is ours because hypercorn shields its sends: only the kernel can give up on a reader that has stopped
reading, and it is told when by TCP_USER_TIMEOUT, which accepted connections inherit. Nothing here knows a route.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import Any

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart_trio import QuartTrio

from gocdnext.errors import DomainError

BACKLOG = 1024
"""Connections that wait to be accepted; beyond it the kernel lets them try again."""
STALLED_AFTER = 3000
"""Milliseconds after which a connection that takes no data is cut."""
GRACE = 1.0
"""Seconds that requests under way have to end after the shutdown event."""
KEEP_ALIVE = 30
"""Seconds an idle connection is kept, and the longest that a request line with its headers may take."""
MAX_HEADER = 16 * 1024
"""Bytes of a request line with its headers; more is answered 431."""
REQUESTS_PER_CONNECTION = 100_000

_LOG = structlog.get_logger("gocdnext.http")


class ListenError(DomainError):
    """The address cannot be listened on; the message names it and the reason."""


async def run(
    app: QuartTrio,
    addr: tuple[str, int],
    shutdown: trio.Event,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves `app` on `addr` until `shutdown`; then requests under way have GRACE seconds. Starts with the bound port.

    Every stream of the app must end on the same event. Raises ListenError.
    """
    listener = open_listener(*addr)
    port: int = listener.getsockname()[1]
    config = _config(listener.detach())
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, app, config, shutdown_trigger=shutdown.wait, mode="asgi"))
        _LOG.info("serving HTTP", host=addr[0], port=port)
        task_status.started(port)


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket on the first address that `host` stands for. Raises ListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
        listener = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    except OSError as error:
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_AFTER)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


def _config(descriptor: int) -> Config:
    """hypercorn takes the socket over from here and closes it."""
    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.backlog = BACKLOG
    config.graceful_timeout = GRACE
    config.shutdown_timeout = GRACE
    config.keep_alive_timeout = KEEP_ALIVE
    config.keep_alive_max_requests = REQUESTS_PER_CONNECTION
    config.h11_max_incomplete_size = MAX_HEADER
    config.h2_max_header_list_size = MAX_HEADER
    config.include_server_header = False
    config.logger_class = _Logger  # type: ignore[assignment]
    return config


class _Logger:
    """hypercorn's logger over ours: its chatter is debug, requests are not logged."""

    def __init__(self, config: Config) -> None:
        self.error_logger = None

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        """One request; those that matter are logged where they are handled."""

    async def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
        _LOG.critical(_format(message, args))

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        _LOG.error(_format(message, args))

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        _LOG.warning(_format(message, args))

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        _LOG.debug(_format(message, args))

    async def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        _LOG.debug(_format(message, args))

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        _LOG.error(_format(message, args), exc_info=True)

    async def log(self, level: int, message: str, *args: Any, **kwargs: Any) -> None:
        _LOG.log(max(level, logging.DEBUG), _format(message, args))


def _format(message: str, args: tuple[Any, ...]) -> str:
    return message % args if args else message
