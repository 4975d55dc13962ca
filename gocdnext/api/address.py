"""Where a request comes from (contract-runs 0.5)."""

from __future__ import annotations

import ipaddress

from quart import Request


def client_address(request: Request) -> str:
    """The address of the caller; empty when it is not known.

    Headers are believed only where a proxy on this machine wrote them (from loopback, or by a unix socket): anybody can
    send them. Of a list the last entry is the proxy's own; those before it are what the caller claims.
    """
    peer = (request.scope.get("client") or ("",))[0] or ""
    if not _is_local(peer):
        return peer
    for name in ("X-Forwarded-For", "X-Real-IP", "True-Client-IP"):
        claimed = request.headers.get(name, "").rpartition(",")[2].strip()
        if _address(claimed) is not None:
            return claimed
    return peer


def _is_local(peer: str) -> bool:
    found = _address(peer)
    return found is None or found.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
