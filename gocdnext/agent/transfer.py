"""Files to and from signed URLs over HTTP (protocol-agent 1.4, 2.7): streaming, bounded, tried again when that helps.

A signed URL is a credential: no error, log line or log record of a library shows more of it than scheme and host.
Imported only by jobs that move something, because an HTTP client costs memory.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self, TypeVar, cast

import httpx
import orjson
import tenacity
import trio

from gocdnext.agent.disk import DiskGuard, explain
from gocdnext.agent.failures import DeliveryError

TOTAL = 1800.0
"""Seconds for one transfer with all its tries."""
CONNECT, STALL = 15.0, 120.0
"""Seconds for a connection, and without a byte moving. The store may write a large file for a while at the end."""
TRIES = 10
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
"""Ten tries take a little over a minute: a server that is restarted comes back within it."""
CHUNK = 1024 * 1024
MAX_REDIRECTS = 10
MAX_DETAIL = 200
"""Characters of the store's own words that are shown."""

_FINAL_SERVER_ERRORS = frozenset({501, 505, 507})
_AGAIN = frozenset({408, 425, 429})

_Result = TypeVar("_Result")

for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # below it they tell the URLs


class TransferError(DeliveryError):
    """The file could not be moved; the text says why, without the URL."""


class _PassingError(TransferError):
    """It may go better the next time."""


@dataclass(frozen=True)
class Fetched:
    """What arrived: its size in bytes and its hash in hexadecimal."""

    size: int
    sha256: str


class Transfers:
    """An HTTP client for the transfers of one job; a context manager. Proxies are those of the environment."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            # Shielded, since it must happen after a cancel too: closing waits for nothing but a TLS farewell.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await client.aclose()

    async def put(self, url: str, path: str, size: int) -> None:
        """Uploads a file of `size` bytes. TransferError."""
        where = _place(url)

        async def once() -> None:
            headers = {"Content-Length": str(size), "Content-Type": "application/gzip"}
            with _reading(path) as file:
                request = self._http().build_request("PUT", url, headers=headers, content=_pieces(file))
                response = await self._http().send(request, stream=True)
                try:
                    await _judge(response, where)
                finally:
                    await _leave(response)

        await self._persist(once, where)

    async def get(self, url: str, path: str, limit: int) -> Fetched:
        """Downloads into a new file, of at most `limit` bytes. TransferError, DiskFullError."""
        where = _place(url)

        async def once() -> Fetched:
            request = self._http().build_request("GET", url, headers={"Accept-Encoding": "identity"})
            response = await self._http().send(request, stream=True, follow_redirects=True)
            try:
                await _judge(response, where)
                with _writing(path) as file:
                    return await _receive(response, file, path, limit)
            finally:
                await _leave(response)

        return await self._persist(once, where)

    async def _persist(self, once: Callable[[], Awaitable[_Result]], where: str) -> _Result:
        """Tries until it works, cannot work, or has been tried often enough."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_PassingError),
            wait=tenacity.wait_exponential(FIRST_WAIT, LONGEST_WAIT) + tenacity.wait_random(0, FIRST_WAIT),
            stop=tenacity.stop_after_attempt(TRIES),
            sleep=trio.sleep,
            reraise=True,
        )

        async def translated() -> _Result:
            with _translated(where):
                return await once()

        try:
            with trio.fail_after(TOTAL):
                return await retrying(translated)
        except trio.TooSlowError:
            raise TransferError(f"{where} took more than {TOTAL / 60:.0f} minutes; that is the limit") from None

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            timeout = httpx.Timeout(STALL, connect=CONNECT)
            self._client = httpx.AsyncClient(
                verify=_tls(),
                timeout=timeout,
                max_redirects=MAX_REDIRECTS,
                # A proxy would look for the server on its own machine.
                mounts=dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]")),
            )
        return self._client


@functools.cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes long enough to be done once."""
    return httpx.create_ssl_context()


def _reading(path: str) -> IO[bytes]:
    return open(path, "rb", 0)


def _writing(path: str) -> IO[bytes]:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb", 0)


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while data := await trio.to_thread.run_sync(file.read, CHUNK):
        yield data


async def _receive(response: httpx.Response, file: IO[bytes], path: str, limit: int) -> Fetched:
    digest = hashlib.sha256()
    too_large = f"the file is larger than {limit >> 20:,} MiB; that is the limit"
    guard = DiskGuard(os.path.dirname(path))

    def store(pieces: list[bytes]) -> None:
        for data in pieces:
            digest.update(data)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            guard.wrote(len(data))

    guard.check()
    if int(response.headers.get("Content-Length", 0)) > limit:
        raise TransferError(too_large)
    size = stored = 0
    gathered: list[bytes] = []  # a thread is worth its while for many pieces; httpx's own gathering copies them
    async with _closing(response.aiter_raw()) as pieces:
        async for data in pieces:
            size += len(data)
            if size > limit:
                raise TransferError(too_large)
            gathered.append(data)
            if size - stored >= CHUNK:
                await trio.to_thread.run_sync(store, gathered)
                gathered, stored = [], size
    await trio.to_thread.run_sync(store, gathered)
    return Fetched(size, digest.hexdigest())


def _closing(pieces: AsyncIterator[bytes]) -> contextlib.aclosing[AsyncGenerator[bytes, None]]:
    """For leaving before the end: httpx's iterators are generators, which its types do not say."""
    return contextlib.aclosing(cast("AsyncGenerator[bytes, None]", pieces))


async def _judge(response: httpx.Response, where: str) -> None:
    """TransferError unless the store says that all is well."""
    status = response.status_code
    if 200 <= status < 300:
        return
    text = f"{where} answered {status} {response.reason_phrase}".rstrip() + await _detail(response)
    if status in _AGAIN or (status >= 500 and status not in _FINAL_SERVER_ERRORS):
        raise _PassingError(text)
    raise TransferError(text)


async def _detail(response: httpx.Response) -> str:
    """The store's own words: one line of text, or the `error` of a JSON document, unless they repeat the URL."""
    content = bytearray()
    async with _closing(response.aiter_bytes()) as pieces:
        async for data in pieces:
            content += data
            if len(content) > 16 * MAX_DETAIL:
                return ""
    text = content.decode("utf-8", "replace").strip()
    with contextlib.suppress(orjson.JSONDecodeError):
        document = orjson.loads(content)
        text = document.get("error", "") if isinstance(document, dict) else ""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_DETAIL or not text.isprintable() or text.startswith("<"):
        return ""
    if any(secret in text for secret in _secrets(response.request.url)):
        return ""
    return f" ({text})"


def _secrets(url: httpx.URL) -> list[str]:
    """The parts of a URL that may be what signs it."""
    return [
        part for part in re.split(r"[/?&=.]", f"{url.path}?{url.query.decode('ascii', 'replace')}") if len(part) > 9
    ]


async def _leave(response: httpx.Response) -> None:
    # Shielded, since it must happen after a cancel too: the connection is closed, nothing is waited for.
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
        await response.aclose()


def _place(url: str) -> str:
    """What may be shown of a URL."""
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        parts = httpx.URL("")
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise TransferError("the server gave an address that is no HTTP URL")
    return f"{parts.scheme}://{parts.netloc.decode('ascii', 'replace')}"


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """The one table from what httpx may raise to our errors. Their texts hold no URL, which was looked up."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.LocalProtocolError) as error:
        raise TransferError(f"{where} cannot be used: {type(error).__name__}") from None
    except httpx.TimeoutException:
        raise _PassingError(f"{where} did not answer in time") from None
    except httpx.ConnectError as error:
        hint = "the server's GOCDNEXT_ARTIFACTS_PUBLIC_BASE has to be an address that its agents reach"
        raise _PassingError(f"{where} cannot be reached: {error}; {hint}") from None
    except httpx.HTTPError as error:
        raise _PassingError(f"the connection to {where} broke: {str(error) or type(error).__name__}") from None
    except OSError as error:
        raise TransferError(explain(error, "the directory of the job")) from None
