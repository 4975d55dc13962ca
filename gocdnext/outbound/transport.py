"""Requests over connections of our own making: directly through the guard, or through the operator's proxy.

A proxy resolves names itself. What can be known of a target before it is handed over is looked at all the same: an address,
or a name that resolves here, is refused when it is inside.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable

import httpcore
import httpx

from gocdnext.outbound.errors import UnreachableError
from gocdnext.outbound.guard import GuardedNetwork, permitted
from gocdnext.outbound.policy import Policy

MAX_CONNECTIONS = 50
MAX_IDLE = 10
IDLE_FOR = 30.0
"""Seconds that an unused connection is kept."""


class Transport:
    """Sends requests and raises what httpcore and the guard raise; `client` translates. The caller closes the answers."""

    def __init__(self, policy: Policy, tls: ssl.SSLContext) -> None:
        self._policy = policy
        self._tls = tls
        self._direct = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE,
            keepalive_expiry=IDLE_FOR,
            network_backend=GuardedNetwork(policy),
        )
        self._proxies = {url: self._proxy(url) for url in {policy.http_proxy, policy.https_proxy} if url}

    async def send(self, request: httpx.Request) -> httpcore.Response:
        url = request.url
        proxy = self._policy.proxy_for(url.scheme, url.host)
        if proxy:
            await self._look_at(url)
        assert isinstance(request.stream, AsyncIterable)
        return await (self._proxies[proxy] if proxy else self._direct).handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )

    async def aclose(self) -> None:
        for pool in (self._direct, *self._proxies.values()):
            await pool.aclose()

    async def _look_at(self, url: httpx.URL) -> None:
        try:
            await permitted(self._policy, url.host, url.port or 0)
        except UnreachableError:
            return  # names that only the proxy can resolve are the reason why there is one

    def _proxy(self, address: str) -> httpcore.AsyncHTTPProxy:
        url = httpx.URL(address)
        return httpcore.AsyncHTTPProxy(
            proxy_url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/"),
            proxy_auth=(url.username, url.password) if url.username else None,
            ssl_context=self._tls,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE,
            keepalive_expiry=IDLE_FOR,
            network_backend=httpcore.TrioBackend(),  # the operator chose it: it may well be inside
        )
