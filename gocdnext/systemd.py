"""Word to systemd: readiness, stopping, and a watchdog that only barks back after a database round trip.

The protocol is one datagram to `$NOTIFY_SOCKET` (sd_notify(3)); without that variable everything here does nothing.
"""

from __future__ import annotations

import os
import socket

import structlog
import trio

from gocdnext.db.pool import Database, DatabaseUnavailableError

_log = structlog.get_logger("systemd")
PING_WITHIN = 5.0
"""Seconds that the database may take before a watchdog beat is left out."""


def notify(state: str) -> None:
    """Sends `state`, for example `READY=1`. A socket that is gone is not worth stopping for."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError as error:
            _log.warning("systemd cannot be told", state=state, error=str(error))


async def watchdog(db: Database) -> None:
    """Beats three times per `$WATCHDOG_USEC` (microseconds), each time only after the database answered."""
    microseconds = int(os.environ.get("WATCHDOG_USEC") or 0)
    if not microseconds or not os.environ.get("NOTIFY_SOCKET"):
        return
    while True:
        try:
            await db.ping(PING_WITHIN)
            notify("WATCHDOG=1")
        except DatabaseUnavailableError as error:
            _log.warning("no watchdog beat: the database does not answer", error=str(error))
        await trio.sleep(microseconds / 3_000_000)
