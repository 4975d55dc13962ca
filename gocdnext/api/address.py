"""Where a request comes from (contract-runs 0.5)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from quart import Request

from gocdnext.config import Network


def client_address(request: Request, proxies: Sequence[Network] = ()) -> str:
    """The address of the caller; empty when it is not known.

    Headers are believed only where a proxy on this machine (from loopback, or by a unix socket) or one of `proxies` wrote
    them: anybody can send them. Of a list the last entry that is no proxy counts; those before it are what the caller claims.
    """
    peer = (request.scope.get("client") or ("",))[0] or ""
    if not _is_trusted(peer, proxies):
        return peer
    for name in ("X-Forwarded-For", "X-Real-IP", "True-Client-IP"):
        claimed = [entry.strip() for entry in request.headers.get(name, "").split(",")]
        while len(claimed) > 1 and _address(claimed[-1]) is not None and _is_trusted(claimed[-1], proxies):
            claimed.pop()
        if _address(claimed[-1]) is not None:
            return claimed[-1]
    return peer


def _is_trusted(peer: str, proxies: Sequence[Network]) -> bool:
    found = _address(peer)
    return found is None or found.is_loopback or any(found in network for network in proxies)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
