"""The typed HTTP client of the API: what the command line talks through, and nothing else.

Answers are the API's own JSON objects (the TypedDicts name the keys that are read here), so `--json` can show them
unchanged. Only safe requests are repeated, only when no connection could be made. The token goes to the server it was
given for: redirects are not followed. This module prints nothing and reads no settings.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, NamedTuple, Self, TypedDict, cast
from urllib.parse import quote, urlsplit

import httpx
import orjson

Query = list[tuple[str, str | int | float | bool | None]]

TIMEOUT = 30.0
"""Seconds for one request, as in contract-cli-plugins 4.2 (`apply`)."""
CONNECT_TIMEOUT = 5.0
SLOW = 600.0
"""Seconds for what may take the server minutes."""
CONNECT_ATTEMPTS = 3
STREAM_SILENCE = 45.0
"""Seconds without a byte after which a stream counts as broken: three of the server's keep-alive ticks (3.4)."""
RECONNECT_FOR = 60.0
"""Seconds to try to get a broken stream back, counted from the break: a restart of the server fits in."""
RECONNECT_PAUSE = 0.2
MAX_IDLE_STREAMS = 30
"""Streams in a row that end without a line before the server is given up: it closes each at once."""
MAX_EVENT = 16 * 1024 * 1024
"""Most bytes of one line of a stream; more is not one of ours."""
MAX_ERROR_TEXT = 2000
PIECE = 1024 * 1024
"""Bytes of a download at a time."""


class ClientError(Exception):
    """Base of what goes wrong between here and the server. `str(error)` is for the user."""


class ApiError(ClientError):
    """The server answered, and the answer is no. `status` is the HTTP code, `message` what the server says."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"server returned {status}: {message}")
        self.status = status
        self.message = message


class CannotReachError(ClientError):
    """No answer: nobody listens there, the name is unknown, or the connection broke."""


class Job(TypedDict, total=False):
    """`JobDetail` of contract-runs 3.2, the keys that are read here."""

    id: str
    name: str
    matrix_key: str
    status: str
    exit_code: int
    error: str
    started_at: str
    finished_at: str
    attempt: int
    logs: list[LogLine]
    logs_total: int


class LogLine(TypedDict, total=False):
    seq: int
    stream: str
    at: str
    text: str


class Stage(TypedDict, total=False):
    id: str
    name: str
    status: str
    started_at: str
    finished_at: str
    jobs: list[Job]


class Run(TypedDict, total=False):
    """`RunSummary`, and what `GlobalRun` and `RunDetail` add (contract-runs 2.2, 3.1, 3.2)."""

    id: str
    pipeline_id: str
    pipeline_name: str
    project_slug: str
    counter: int
    cause: str
    status: str
    queue_reason: str
    cancel_reason: str
    created_at: str
    started_at: str
    finished_at: str
    triggered_by: str
    waiting: dict[str, str]
    stages: list[Stage]
    revisions: dict[str, dict[str, str]]


class Artifact(TypedDict, total=False):
    """One artifact of a run (3.6). The link is there when it is `ready`."""

    id: str
    job_name: str
    path: str
    status: str
    size_bytes: int
    content_sha256: str
    created_at: str
    expires_at: str
    download_url: str


class RunPage(TypedDict):
    runs: list[Run]
    total: int
    limit: int
    offset: int


class Event(NamedTuple):
    """One server-sent event. `id` is the run-wide cursor of a log line; empty on `end`."""

    name: str
    id: str
    data: dict[str, Any]


class Client:
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

    # Projects and pipelines

    def projects(self, limit: int | None = None, offset: int = 0) -> dict[str, Any]:
        """GET /api/v1/projects (contract-runs 2.1)."""
        page: Query = [("offset", offset)] if limit is None else [("limit", limit), ("offset", offset)]
        return self._get("/api/v1/projects", page if limit or offset else None)

    def project(self, slug: str) -> dict[str, Any]:
        """GET /api/v1/projects/{slug} (2.2), without recent runs beyond the one that must be asked for."""
        return self._get(f"/api/v1/projects/{quote(slug, safe='')}", [("runs", 1)])

    def vsm(self, slug: str) -> dict[str, Any]:
        """GET /api/v1/projects/{slug}/vsm (2.3)."""
        return self._get(f"/api/v1/projects/{quote(slug, safe='')}/vsm")

    def delete_project(self, slug: str) -> dict[str, Any]:
        """DELETE /api/v1/projects/{slug} (2.6). Millions of log lines may go with it."""
        path = f"/api/v1/projects/{quote(slug, safe='')}"
        return self._json(self._send(self._http.build_request("DELETE", path, timeout=SLOW)))

    def run_all(self, slug: str) -> dict[str, Any]:
        """POST /api/v1/projects/{slug}/run-all (2.7). Each repository is asked, one after the other."""
        path = f"/api/v1/projects/{quote(slug, safe='')}/run-all"
        return self._json(self._send(self._http.build_request("POST", path, timeout=SLOW)))

    def apply(self, request: Mapping[str, object]) -> dict[str, Any]:
        """POST /api/v1/projects/apply (2.4), JSON form."""
        return self._post("/api/v1/projects/apply", request)

    def pipeline_yaml(self, pipeline_id: str) -> dict[str, Any]:
        """GET /api/v1/pipelines/{id}/yaml (5.1)."""
        return self._get(f"/api/v1/pipelines/{pipeline_id}/yaml")

    def trigger(self, pipeline_id: str) -> dict[str, Any]:
        """POST /api/v1/pipelines/{id}/trigger (5.2). Never repeated: each call makes a run."""
        return self._post(f"/api/v1/pipelines/{pipeline_id}/trigger", None)

    def set_poll_interval(self, slug: str, interval: str) -> dict[str, Any]:
        """PUT /api/v1/projects/{slug}/poll-interval (contract-admin 6.2); empty turns polling off."""
        path = f"/api/v1/projects/{quote(slug, safe='')}/poll-interval"
        headers = {"Content-Type": "application/json"}
        body = orjson.dumps({"interval": interval})
        found: dict[str, Any] = self._json(
            self._send(self._http.build_request("PUT", path, content=body, headers=headers))
        )
        return found

    def dashboard(self) -> dict[str, Any]:
        """GET /api/v1/dashboard/metrics (8.1)."""
        return self._get("/api/v1/dashboard/metrics")

    # Environments

    def environments(self, slug: str) -> dict[str, Any]:
        """The environments of a project, and what each has now."""
        return self._get(_environment(slug))

    def deployments(self, slug: str, name: str, limit: int) -> dict[str, Any]:
        """Deployments to an environment, newest first."""
        return self._get(f"{_environment(slug, name)}/deployments", [("limit", limit)])

    def freeze(self, slug: str, name: str, reason: str) -> None:
        """Freezes an environment."""
        body = orjson.dumps({"reason": reason})
        headers = {"Content-Type": "application/json"}
        path = f"{_environment(slug, name)}/freeze"
        self._json(self._send(self._http.build_request("PUT", path, content=body, headers=headers)))

    def unfreeze(self, slug: str, name: str) -> None:
        """Lets an environment go."""
        self._json(self._send(self._http.build_request("DELETE", f"{_environment(slug, name)}/freeze")))

    def rollback(self, slug: str, name: str, deployment_id: str | None) -> dict[str, Any]:
        """Deploys an earlier deployment again; without one the newest that succeeded."""
        return self._post(f"{_environment(slug, name)}/rollback", {"deployment_id": deployment_id})

    # Secrets; `slug` None means the global ones

    def secrets(self, slug: str | None, offset: int = 0) -> dict[str, Any]:
        """One page of names (contract-admin 5.3)."""
        return self._get(_secrets(slug), [("limit", 200), ("offset", offset)])

    def set_secret(self, slug: str | None, name: str, value: str) -> dict[str, Any]:
        """Sets a value (5.4). The same again changes nothing, so it may be repeated."""
        return self._post(_secrets(slug), {"name": name, "value": value})

    def delete_secret(self, slug: str | None, name: str) -> None:
        """Removes a secret (5.5)."""
        self._json(self._send(self._http.build_request("DELETE", f"{_secrets(slug)}/{quote(name, safe='')}")))

    # The audit trail

    def audit(self, limit: int, offset: int = 0, **filters: str | None) -> dict[str, Any]:
        """One page of events, newest first (contract-admin 7.3). Filters as there; None leaves one out."""
        query: Query = [("limit", limit), ("offset", offset)]
        query.extend((name, value) for name, value in filters.items() if value)
        return self._get("/api/v1/admin/audit", query)

    # Deliveries of webhooks (contract-admin 7.7)

    def deliveries(self, limit: int, offset: int = 0, **filters: str | None) -> dict[str, Any]:
        """One page, newest first. Filters: provider, status; None leaves one out."""
        query: Query = [("limit", limit), ("offset", offset)]
        query.extend((name, value) for name, value in filters.items() if value)
        return self._get("/api/v1/admin/webhooks", query)

    def delivery(self, delivery_id: int) -> dict[str, Any]:
        """One delivery with headers, payload and the rules that decided."""
        return self._get(f"/api/v1/admin/webhooks/{delivery_id}")

    def redeliver(self, delivery_id: int) -> dict[str, Any]:
        """Processes a delivery again."""
        return self._post(f"/api/v1/admin/webhooks/{delivery_id}/redeliver", None)

    # Runs

    def runs(self, limit: int = 20, offset: int = 0, **filters: str | None) -> RunPage:
        """GET /api/v1/runs (3.1). Filters: project, pipeline, status, cause; None leaves one out."""
        query: Query = [("limit", limit), ("offset", offset)]
        query.extend((name, value) for name, value in filters.items() if value)
        return cast("RunPage", self._get("/api/v1/runs", query))

    def run(self, run_id: str, *, logs: int = 0, since: Mapping[str, int] | None = None) -> Run:
        """GET /api/v1/runs/{id} (3.2). `logs`: lines for each job; `since`: job id -> seq already seen."""
        query: Query = [("logs", logs)]
        query.extend(("since", f"{job}:{seq}") for job, seq in (since or {}).items())
        return cast("Run", self._get(f"/api/v1/runs/{run_id}", query))

    def cancel_run(self, run_id: str) -> None:
        """POST /api/v1/runs/{id}/cancel (3.9)."""
        self._post(f"/api/v1/runs/{run_id}/cancel", None)

    def rerun_run(self, run_id: str) -> dict[str, Any]:
        """POST /api/v1/runs/{id}/rerun (3.10). Never repeated: each call makes a run."""
        return self._post(f"/api/v1/runs/{run_id}/rerun", None)

    # Jobs

    def cancel_job(self, job_id: str) -> dict[str, Any]:
        """POST /api/v1/job_runs/{id}/cancel (4.1)."""
        return self._post(f"/api/v1/job_runs/{job_id}/cancel", None)

    def rerun_job(self, job_id: str) -> dict[str, Any]:
        """POST /api/v1/job_runs/{id}/rerun (4.2)."""
        return self._post(f"/api/v1/job_runs/{job_id}/rerun", None)

    def vote(self, job_id: str, decision: str, *, comment: str = "", user: str = "") -> dict[str, Any]:
        """POST /api/v1/job_runs/{id}/approve or /reject (4.3). `user` counts only without authentication."""
        said = {key: value for key, value in (("comment", comment), ("user", user)) if value}
        return self._post(f"/api/v1/job_runs/{job_id}/{decision}", said or None)

    # What runs leave behind

    def artifacts(self, run_id: str) -> list[Artifact]:
        """GET /api/v1/runs/{id}/artifacts (3.6)."""
        request = self._http.build_request("GET", f"/api/v1/runs/{run_id}/artifacts")
        return cast("list[Artifact]", self._document(self._again(request), list))

    def download(self, url: str) -> Iterator[bytes]:
        """The bytes behind a signed link (9), which may lead to another server: the token is not sent along."""
        parts = urlsplit(url)
        timeout = httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT)
        try:
            with httpx.stream("GET", url, timeout=timeout, headers={"Accept-Encoding": "identity"}) as response:
                if response.status_code != 200:
                    response.read()
                    raise self._refusal(response)
                yield from response.iter_bytes(PIECE)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            # Without the path: it is a credential.
            where = f"{parts.scheme}://{parts.netloc}"
            raise CannotReachError(f"cannot reach {where}: {str(error) or type(error).__name__}") from error

    def agents(self) -> dict[str, Any]:
        """GET /api/v1/agents (8.2)."""
        return self._get("/api/v1/agents")

    def plugins(self) -> dict[str, Any]:
        """GET /api/v1/plugins (7.1)."""
        return self._get("/api/v1/plugins")

    def agent(self, agent_id: str, jobs: int = 20) -> dict[str, Any]:
        """GET /api/v1/agents/{id} (8.2) with the agent's newest jobs."""
        return self._get(f"/api/v1/agents/{agent_id}", [("jobs", jobs)])

    def set_agent(self, agent_id: str, *, disabled: bool) -> None:
        """POST /api/v1/agents/{id}/disable or /enable."""
        self._post(f"/api/v1/agents/{agent_id}/{'disable' if disabled else 'enable'}", None)

    def create_agent(self, name: str) -> dict[str, Any]:
        """POST /api/v1/agents: a new agent and its token."""
        return self._post("/api/v1/agents", {"name": name})

    def new_agent_token(self, agent_id: str) -> dict[str, Any]:
        """POST /api/v1/agents/{id}/token: another token."""
        return self._post(f"/api/v1/agents/{agent_id}/token", None)

    # Reports

    def tests(self, run_id: str) -> dict[str, Any]:
        """GET /api/v1/runs/{id}/tests (6.1)."""
        return self._get(f"/api/v1/runs/{run_id}/tests")

    def coverage(self, run_id: str) -> dict[str, Any]:
        """GET /api/v1/runs/{id}/coverage (6.3)."""
        return self._get(f"/api/v1/runs/{run_id}/coverage")

    def coverage_trend(self, pipeline_id: str, limit: int) -> dict[str, Any]:
        """GET /api/v1/pipelines/{id}/coverage-trend (6.3)."""
        return self._get(f"/api/v1/pipelines/{pipeline_id}/coverage-trend", [("limit", limit)])

    # Accounts and other resources that the command line only passes on

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Any route that answers an object or nothing. GET is repeated like every safe request, others never."""
        if method == "GET":
            return self._get(path)
        content = b"" if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        return self._json(self._send(self._http.build_request(method, path, content=content, headers=headers)))

    # Server

    def version(self) -> dict[str, Any]:
        """GET /version (10)."""
        return self._get("/version")

    def ready(self) -> dict[str, Any]:
        """GET /readyz (10); 503 is an `ApiError`."""
        return self._get("/readyz")

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

    def _get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        request = self._http.build_request("GET", path, params=query)
        return self._json(self._again(request))

    def _post(self, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        return self.call("POST", path, body)

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

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        """The object in a good answer."""
        return cast("dict[str, Any]", self._document(response, dict))

    def _document(self, response: httpx.Response, kind: type[dict[str, Any] | list[Any]]) -> object:
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


def byte_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their ends. Only LF and CRLF end one: text of a log may hold any other separator.

    Raises `CannotReachError` for a line over MAX_EVENT bytes.
    """
    rest: list[bytes] = []
    size = 0
    for chunk in chunks:
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            yield b"".join([*rest, line]).removesuffix(b"\r")
            rest, size = [], 0
        rest.append(tail)
        size += len(tail)
        if size > MAX_EVENT:
            raise CannotReachError(f"a line of the answer is over {MAX_EVENT} bytes; is this a gocdnext server?")
    if last := b"".join(rest):
        yield last


def parse_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Server-sent events with JSON data. Comments are skipped; an event that the stream breaks off is dropped."""
    fields: dict[bytes, bytes] = {}
    for line in byte_lines(chunks):
        if line:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            fields[name] = fields[name] + b"\n" + value if name == b"data" and name in fields else value
            continue
        if b"data" in fields:
            name = fields.get(b"event", b"message")
            yield Event(name.decode(), fields.get(b"id", b"").decode(), orjson.loads(fields[b"data"]))
        fields = {}


def _secrets(slug: str | None) -> str:
    return "/api/v1/admin/secrets" if slug is None else f"/api/v1/projects/{quote(slug, safe='')}/secrets"


def _environment(slug: str, name: str | None = None) -> str:
    path = f"/api/v1/projects/{quote(slug, safe='')}/environments"
    return path if name is None else f"{path}/{quote(name, safe='')}"
