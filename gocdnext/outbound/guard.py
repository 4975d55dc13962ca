"""Where connections are made: to addresses that were looked at, and to none other.

A name is resolved once, the addresses that may be called are picked, and the connection goes to one of these: a name that
answers differently the next time (DNS rebinding) changes nothing. TLS still checks the certificate against the name.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore
import trio

from gocdnext.outbound.errors import RefusedTargetError, UnreachableError
from gocdnext.outbound.hosts import Address, is_outside
from gocdnext.outbound.policy import Policy

_HINT = "if it is to be called, name it in GOCDNEXT_OUTBOUND_ALLOW"


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, each once, in the system's order. Raises UnreachableError."""
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        words = f"the host {host[:253]!r} has no address; is its name right, does DNS work?"
        raise UnreachableError(words, undone=True) from None
    # A zone (`fe80::1%eth0`) does not change what an address is.
    return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


async def permitted(policy: Policy, host: str, port: int) -> list[Address]:
    """Those addresses of a host that may be connected to; at least one. Raises RefusedTargetError, UnreachableError."""
    addresses = await resolve(host, port)
    if policy.allow.has_name(host):
        return addresses
    good = [address for address in addresses if is_outside(address) or policy.allow.has_address(address)]
    if not good:
        raise RefusedTargetError(f"{host[:253]!r} is an address inside this network and is not called; {_HINT}")
    return good


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connections of the client to targets."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first permitted address that takes one, within `timeout` seconds for each."""
        problem: Exception | None = None
        for address in await permitted(self._policy, host, port):
            try:
                return await self._trio.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        assert problem is not None
        raise problem

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise RefusedTargetError("sockets of this machine are not called")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)
