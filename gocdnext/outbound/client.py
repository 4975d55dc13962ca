"""The client of every outgoing HTTP call: what is sent, how long it may take, what is repeated, what comes back.

async with Outbound(policy, clock) as outbound:
    answer = await outbound.request("GET", "https://api.github.com/app", headers={"Authorization": f"Bearer {token}"})
    if answer.ok: answer.json()
"""

from __future__ import annotations

import contextlib
import email.utils
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

import httpcore
import httpx
import orjson
import trio
from tenacity import AsyncRetrying, RetryCallState, wait_exponential_jitter

from gocdnext import __version__
from gocdnext.outbound.errors import BadAnswerError, OfflineError, OutboundError, RefusedTargetError, UnreachableError
from gocdnext.outbound.policy import Policy
from gocdnext.outbound.transport import Transport

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0
"""Seconds of silence after which an answer counts as broken."""
TIMEOUT = 30.0
"""Seconds for one call: all tries, all redirects, the whole answer."""
MAX_BYTES = 1024 * 1024
MAX_URL = 8192
MAX_HEADERS = 100
ATTEMPTS = 3
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_UNDONE: Final = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout)
"""Nothing was sent yet."""
_TROUBLE: Final = (
    OutboundError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProxyError,
    httpcore.ProtocolError,
)
_PAUSES = wait_exponential_jitter(multiplier=0.25, max=5, jitter=0.5)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Names of headers are case-insensitive."""

    status: int
    headers: httpx.Headers = field(repr=False)
    content: bytes = field(repr=False)
    host: str
    retry_after: float | None = None
    """Seconds that the other side asks to wait."""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The document in the answer. Raises BadAnswerError."""
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError:
            raise BadAnswerError(f"{self.host} answered {self.status} without JSON") from None

    def mapping(self) -> dict[str, Any]:
        """The object in the answer. Raises BadAnswerError."""
        document = self.json()
        if not isinstance(document, dict):
            raise BadAnswerError(f"{self.host} answered {self.status} with something else than a JSON object")
        return document

    def entries(self) -> list[dict[str, Any]]:
        """The objects of the list in the answer. Raises BadAnswerError."""
        document = self.json()
        if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
            raise BadAnswerError(f"{self.host} answered {self.status} with something else than a list of JSON objects")
        return document


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer whose body is read as it comes; only inside `Outbound.stream`."""

    status: int
    headers: httpx.Headers = field(repr=False)
    host: str
    _response: httpcore.Response = field(repr=False)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body. Raises UnreachableError when it breaks off before its announced end."""
        problem: OutboundError | None = None
        try:
            async for piece in self._response.aiter_stream():
                yield piece
        except _TROUBLE as error:
            problem = _told(error, self.host)
        if problem is not None:
            raise problem


class Outbound:
    """Calls to others. Use it as a context manager; one for the life of the process. All methods are for trio."""

    def __init__(
        self,
        policy: Policy,
        clock: Callable[[], datetime],
        *,
        tls: ssl.SSLContext | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        """`tls` verifies the other side; None trusts the system's authorities, certifi's, and `SSL_CERT_FILE` if set."""
        self.policy = policy
        self._clock = clock
        self._attempts = attempts
        self._transport = None if policy.offline else Transport(policy, tls or _default_tls())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            # Short: it closes sockets and says goodbye to nobody.
            with trio.move_on_after(1, shield=True):
                await self._transport.aclose()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        json: object = None,
        content: bytes | None = None,
        form: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        silence: float = READ_TIMEOUT,
        max_bytes: int = MAX_BYTES,
        repeat: bool | None = None,
        redirects: int = 0,
    ) -> Answer:
        """Calls somebody; any status is an answer. The body is one of `json`, `content`, `form`.

        `timeout` (seconds) is for everything together, `silence` for the time in which nothing moves. `repeat`: whether
        doing it twice is harmless (None: for GET, HEAD, OPTIONS); such a call is tried again after broken connections, 429
        and 5xx, any other only when nothing was sent or the answer is 429. `redirects`: how many are followed, by safe
        calls only; at another host the caller's headers are left out, and https never becomes http. An unfollowed redirect
        is an answer.

        Raises OfflineError, RefusedTargetError, UnreachableError, BadAnswerError.
        """
        if self.policy.offline or self._transport is None:
            raise OfflineError(f"a call to {_host_of(url)}")
        request = _build(method, url, headers, params, json, content, form, silence=silence)
        limits = _Limits(trio.current_time() + timeout, max_bytes, redirects if method in SAFE else 0)
        harmless = method in SAFE if repeat is None else repeat
        answer: Answer | None = None
        with trio.move_on_at(limits.deadline):
            answer = await self._repeated(self._transport, request, limits, harmless)
        if answer is None:
            raise UnreachableError(f"{request.url.host} gave no whole answer within {timeout:g} s")
        return answer

    async def _repeated(self, transport: Transport, request: httpx.Request, limits: _Limits, harmless: bool) -> Answer:
        def again(state: RetryCallState) -> bool:
            assert state.outcome is not None
            error = state.outcome.exception()
            if error is not None:
                return isinstance(error, UnreachableError) and (harmless or error.undone)
            status = state.outcome.result().status
            return status == 429 or (harmless and status >= 500)

        def pause(state: RetryCallState) -> float:
            assert state.outcome is not None
            asked = None if state.outcome.failed else state.outcome.result().retry_after
            return _PAUSES(state) + (asked or 0.0)

        def enough(state: RetryCallState) -> bool:
            late = trio.current_time() + state.upcoming_sleep >= limits.deadline
            return state.attempt_number >= self._attempts or late

        async def once() -> Answer:
            return await self._follow(transport, request, limits)

        attempts = AsyncRetrying(
            sleep=trio.sleep, retry=again, wait=pause, stop=enough, retry_error_callback=_last_outcome
        )
        answer: Answer = await attempts(once)
        return answer

    async def _follow(self, transport: Transport, request: httpx.Request, limits: _Limits) -> Answer:
        for _ in range(limits.redirects):
            answer = await self._send(transport, request, limits)
            target = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not target:
                return answer
            request = _redirected(request, target)
        return await self._send(transport, request, limits)

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, silence: float = READ_TIMEOUT
    ) -> AsyncIterator[Streamed]:
        """Calls somebody once and hands out the body as it comes: for what is too large to be held in memory.

        Neither repeated nor bounded in size; `silence` are the seconds without a byte after which it counts as broken.
        Raises OfflineError, RefusedTargetError, UnreachableError, BadAnswerError.
        """
        if self.policy.offline or self._transport is None:
            raise OfflineError(f"a call to {_host_of(url)}")
        request = _build(method, url, headers, None, None, None, None, silence=silence)
        host = request.url.host
        problem: OutboundError | None = None
        try:
            response = await self._transport.send(request)
        except _TROUBLE as error:
            problem = _told(error, host)
        if problem is not None:
            raise problem
        try:
            yield Streamed(response.status, _checked_headers(response, host), host, response)
        finally:
            await _leave(response)

    async def _send(self, transport: Transport, request: httpx.Request, limits: _Limits) -> Answer:
        """One request, one answer. What fails is told without its cause: that holds the request with its headers."""
        problem: OutboundError
        try:
            return await self._exchange(transport, request, limits.max_bytes)
        except _TROUBLE as error:
            problem = _told(error, request.url.host)
        raise problem

    async def _exchange(self, transport: Transport, request: httpx.Request, max_bytes: int) -> Answer:
        host = request.url.host
        response = await transport.send(request)
        try:
            headers = _checked_headers(response, host)
            content = bytearray()
            if request.method != "HEAD" and _announced(headers) > max_bytes:
                raise BadAnswerError(f"{host} answered with more than {max_bytes} bytes")
            async for piece in response.aiter_stream():
                content += piece
                if len(content) > max_bytes:
                    raise BadAnswerError(f"{host} answered with more than {max_bytes} bytes")
        finally:
            await _leave(response)
        return Answer(response.status, headers, bytes(content), host, self._retry_after(response.status, headers))

    def _retry_after(self, status: int, headers: httpx.Headers) -> float | None:
        """Seconds, from a number or a date; also of GitHub, which names the moment when an exhausted quota is full again."""
        said = headers.get("retry-after", "").strip()
        if said.isascii() and said.isdigit():
            return float(said[:9])
        moment: datetime | None = None
        try:
            if said:
                moment = email.utils.parsedate_to_datetime(said)
            elif headers.get("x-ratelimit-remaining") == "0" and status in (403, 429):
                reset = headers.get("x-ratelimit-reset", "")
                return (
                    max(0.0, int(reset[:11]) - self._clock().timestamp())
                    if reset.isascii() and reset.isdigit()
                    else None
                )
        except (ValueError, OverflowError):
            return None
        if moment is None or moment.tzinfo is None:
            return None
        return max(0.0, (moment - self._clock()).total_seconds())


@dataclass(frozen=True, slots=True)
class _Limits:
    deadline: float
    max_bytes: int
    redirects: int


def _build(
    method: str,
    url: str,
    headers: Mapping[str, str] | None,
    params: Mapping[str, str | int] | None,
    json: object,
    content: bytes | None,
    form: Mapping[str, str] | None,
    *,
    silence: float,
) -> httpx.Request:
    """Raises RefusedTargetError for what is not an http(s) url with a host."""
    sent = {"User-Agent": f"gocdnext/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"} | dict(
        headers or {}
    )
    if json is not None:
        content = orjson.dumps(json)
        sent.setdefault("Content-Type", "application/json")
    if len(url) > MAX_URL:
        raise RefusedTargetError(f"a url of more than {MAX_URL} characters")
    try:
        parsed = httpx.URL(url)
        if params is not None:
            parsed = parsed.copy_merge_params(params)
        _check(parsed)
        timeouts = {"connect": CONNECT_TIMEOUT, "read": silence, "write": silence, "pool": TIMEOUT}
        return httpx.Request(method, parsed, headers=sent, content=content, data=form, extensions={"timeout": timeouts})
    except (httpx.InvalidURL, ValueError, TypeError):
        problem = RefusedTargetError("what is to be called is not a url, or a header of the call is no text")
    raise problem


def _check(url: httpx.URL) -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise RefusedTargetError("only http and https urls with a host are called")
    if url.port is not None and not 0 < url.port < 65536:
        raise RefusedTargetError(f"{url.port} is not a port")
    if url.userinfo:
        raise RefusedTargetError("a url with a user name or password is not called: credentials belong into a header")


def _redirected(request: httpx.Request, target: str) -> httpx.Request:
    """The request at the place that an answer names. Raises RefusedTargetError, BadAnswerError."""
    old = request.url
    try:
        new = old.join(target)
    except (httpx.InvalidURL, ValueError):
        new = None
    if new is None:
        raise BadAnswerError(f"{old.host} redirects to something that is not a url")
    _check(new)
    if old.scheme == "https" and new.scheme != "https":
        raise RefusedTargetError(f"{old.host} redirects from https to http; that is not followed")
    same = (old.scheme, old.host, old.port) == (new.scheme, new.host, new.port)
    kept = ("user-agent", "accept", "accept-encoding")
    headers = {name: value for name, value in request.headers.items() if name in kept or (same and name != "host")}
    return httpx.Request(request.method, new, headers=headers, extensions=dict(request.extensions))


def _checked_headers(response: httpcore.Response, host: str) -> httpx.Headers:
    """The headers of an answer. Raises BadAnswerError for those that nobody asked for."""
    headers = httpx.Headers(response.headers)
    if len(headers.raw) > MAX_HEADERS:
        raise BadAnswerError(f"{host} answered with more than {MAX_HEADERS} headers")
    if headers.get("content-encoding", "identity").lower() != "identity":
        # Not asked for; and a few packed bytes can be gigabytes.
        raise BadAnswerError(f"{host} answered packed, although that was not asked for")
    return headers


async def _leave(response: httpcore.Response) -> None:
    # It may have to say goodbye on a connection whose other side no longer listens.
    with trio.move_on_after(1, shield=True):
        await response.aclose()


def _told(error: Exception, host: str) -> OutboundError:
    """The one table from what goes wrong below to our errors."""
    if isinstance(error, OutboundError):
        return error
    if isinstance(error, _UNDONE):
        return UnreachableError(f"cannot connect to {host}: {_reason(error)}", undone=True)
    if isinstance(error, httpcore.TimeoutException):
        return UnreachableError(f"{host} does not answer")
    if isinstance(error, httpcore.LocalProtocolError):
        return RefusedTargetError(f"a header for {host} is none")
    if isinstance(error, httpcore.NetworkError | httpcore.ProxyError):
        return UnreachableError(f"the connection to {host} broke: {_reason(error)}")
    return UnreachableError(f"{host} broke off its answer, or does not speak HTTP")


def _announced(headers: httpx.Headers) -> int:
    said = headers.get("content-length", "")
    return int(said[:18]) if said.isascii() and said.isdigit() else 0


def _host_of(url: str) -> str:
    try:
        return httpx.URL(url).host or "nobody"
    except (httpx.InvalidURL, ValueError):
        return "nobody"


def _reason(error: Exception) -> str:
    """What the system said, on one line; httpcore's texts name addresses and certificates, never paths or headers."""
    deepest: BaseException = error
    while (cause := deepest.__cause__ or deepest.__context__) is not None:
        deepest = cause
    words = str(deepest) or str(error) or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in words)[:200]


def _last_outcome(state: RetryCallState) -> Answer:
    """What the last try gave, or raised."""
    assert state.outcome is not None
    answer: Answer = state.outcome.result()
    return answer


def _default_tls() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.load_default_certs()  # authorities that the operator installed on the machine
    return context
