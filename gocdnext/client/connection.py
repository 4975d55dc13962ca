"""A connection to one server: requests, answers, refusals, streams that are taken up again. It knows no resource."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, Self, cast

import httpx
import orjson

from gocdnext.client.errors import ApiError, CannotReachError
from gocdnext.client.streams import Event, byte_lines, parse_events

Query = list[tuple[str, str | int | float | bool | None]]
TIMEOUT = 30.0
"""Seconds for one request, as in contract-cli-plugins 4.2 (`apply`)."""
CONNECT_TIMEOUT = 5.0
CONNECT_ATTEMPTS = 3
STREAM_SILENCE = 45.0
"""Seconds without a byte after which a stream counts as broken: three of the server's keep-alive ticks (3.4)."""
RECONNECT_FOR = 60.0
"""Seconds to try to get a broken stream back, counted from the break: a restart of the server fits in."""
RECONNECT_PAUSE = 0.2
MAX_IDLE_STREAMS = 30
"""Streams in a row that end without a line before the server is given up: it closes each at once."""
MAX_ERROR_TEXT = 2000


class Connection:
    """A connection to one server. Use it as a context manager.

    `base_url` is http or https without a path; `token` is sent as a bearer token to that origin only.
    Every method raises `ApiError` or `CannotReachError`.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        *,
        timeout: float = TIMEOUT,
        connect_attempts: int = CONNECT_ATTEMPTS,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._connect_attempts = connect_attempts
        headers = {"User-Agent": "gocdnext", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            self._http = httpx.Client(
                base_url=self.base_url,
                headers=headers,
                timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
                follow_redirects=False,
            )
        except httpx.InvalidURL as error:
            raise CannotReachError(f"{base_url} is not a URL: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    # Logs

    def log_text(self, run_id: str, job_id: str) -> Iterator[str]:
        """The stored lines of a job, from GET .../log.txt (3.5), as they arrive."""
        response = self._open(f"/api/v1/runs/{run_id}/jobs/{job_id}/log.txt", {"Accept": "text/plain"})
        with closing(response):
            try:
                for line in byte_lines(response.iter_bytes()):
                    yield line.decode("utf-8", "replace")
            except httpx.TransportError as error:
                raise self._cannot_reach(error) from error

    def follow(self, run_id: str, cursor: int = 0) -> Iterator[Event]:
        """The events of a run from a cursor on (3.4): 0 = everything that is stored, then live, until `end`.

        A broken stream is taken up again behind the last line that was seen, for RECONNECT_FOR seconds.
        """
        response = self._open_events(run_id, cursor)
        idle_streams = 0
        while idle_streams < MAX_IDLE_STREAMS:
            idle_streams += 1
            with closing(response), suppress(httpx.TransportError):
                for event in parse_events(response.iter_bytes()):
                    if event.id.isdecimal():
                        cursor, idle_streams = int(event.id), 0
                    yield event
                    if event.name == "end":
                        return
            response = self._reopen_events(run_id, cursor)
        raise CannotReachError(f"{self.base_url} keeps closing the log stream; the run itself is not touched by that")

    def _open_events(self, run_id: str, cursor: int) -> httpx.Response:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Last-Event-ID": str(cursor)}
        return self._open(f"/api/v1/runs/{run_id}/logs/stream", headers)

    def _reopen_events(self, run_id: str, cursor: int) -> httpx.Response:
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

        time.sleep(RECONNECT_PAUSE)
        attempts = Retrying(
            retry=retry_if_exception(may_come_back),
            stop=stop_after_delay(RECONNECT_FOR),
            wait=wait_exponential_jitter(multiplier=RECONNECT_PAUSE, max=3, jitter=0.3),
            reraise=True,
        )
        return attempts(self._open_events, run_id, cursor)

    # The one way out

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Any route that answers an object or nothing, by its address; what is in the answer is for the caller to know."""
        return cast("dict[str, Any]", self._ask(method, path, body))

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """One request. GET is repeated like every safe request, others never."""
        if method == "GET":
            return self._get(path)
        content = b"" if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        return self._json(self._send(self._http.build_request(method, path, content=content, headers=headers)))

    def _get(self, path: str, query: Query | None = None) -> Any:
        request = self._http.build_request("GET", path, params=query)
        return self._json(self._again(request))

    def _post(self, path: str, body: Mapping[str, object] | None) -> Any:
        return self._ask("POST", path, body)

    def _open(self, path: str, headers: dict[str, str]) -> httpx.Response:
        """A streamed answer with status 200; the caller closes it."""
        timeout = httpx.Timeout(STREAM_SILENCE, connect=CONNECT_TIMEOUT)
        response = self._again(self._http.build_request("GET", path, headers=headers, timeout=timeout), stream=True)
        if response.status_code != 200:
            with closing(response):
                response.read()
            raise self._refusal(response)
        return response

    def _again(self, request: httpx.Request, stream: bool = False) -> httpx.Response:
        """Send a safe request; when there was no connection, a little later once or twice more."""
        try:
            return self._send(request, stream)
        except CannotReachError as error:
            if self._connect_attempts < 2 or not isinstance(error.__cause__, httpx.ConnectError):
                raise
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

        attempts = Retrying(
            retry=retry_if_exception_type(CannotReachError),
            stop=stop_after_attempt(self._connect_attempts - 1),
            wait=wait_exponential_jitter(multiplier=0.1, max=1, jitter=0.1),
            reraise=True,
        )
        return attempts(self._send, request, stream)

    def _send(self, request: httpx.Request, stream: bool = False) -> httpx.Response:
        try:
            return self._http.send(request, stream=stream)
        except httpx.TransportError as error:
            raise self._cannot_reach(error) from error

    def _cannot_reach(self, error: httpx.TransportError) -> CannotReachError:
        reason = str(error) or type(error).__name__
        return CannotReachError(f"cannot reach {self.base_url}: {reason}")

    def _json(self, response: httpx.Response) -> Any:
        """The object in a good answer."""
        return self._document(response, dict)

    def _document(self, response: httpx.Response, kind: type[dict[str, Any] | list[Any]]) -> Any:
        """The object or list in a good answer; an empty body counts as an empty one."""
        if not response.is_success:
            raise self._refusal(response)
        if not response.content:
            return kind()
        try:
            document = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, kind):
            raise ApiError(
                response.status_code, f"the answer of {self.base_url} is not JSON; is this a gocdnext server?"
            )
        return document

    def _refusal(self, response: httpx.Response) -> ApiError:
        if response.is_redirect:
            target = response.headers.get("Location", "")
            return ApiError(response.status_code, f"redirects to {target}; give the final address with --server")
        return ApiError(response.status_code, _error_text(response.content) or response.reason_phrase)


def _problem_text(problem: dict[str, object]) -> str:
    """One problem of a pipeline file as editors understand it: `file:line:column: message (path); hint`."""
    place = ":".join(str(problem.get(key, "?")) for key in ("file", "line", "column"))
    path = f" ({problem['path']})" if problem.get("path") else ""
    hint = f"; {problem['hint']}" if problem.get("hint") else ""
    return f"{place}: {problem.get('message', '')}{path}{hint}"


def _error_text(body: bytes) -> str:
    """The message of an error answer: the value of `error`, else the trimmed body (contract-runs 0.2)."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace").strip()[:MAX_ERROR_TEXT]
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        told = [_problem_text(entry) for entry in document.get("errors") or () if isinstance(entry, dict)]
        return "\n".join(told)[:MAX_ERROR_TEXT] if told else cast("str", document["error"])
    return body.decode("utf-8", "replace").strip()[:MAX_ERROR_TEXT]


def may_come_back(error: BaseException) -> bool:
    """Whether a later try can help: nobody there, or a server (or its proxy) that is starting."""
    return isinstance(error, CannotReachError) or (isinstance(error, ApiError) and error.status in (502, 503, 504))
