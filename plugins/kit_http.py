"""HTTP for plugins: bounded repeats, no redirects, and errors that show no more of an address than its host."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

import kit

TIMEOUT = 30.0
"""Seconds to wait for a connection, and for each piece of an answer."""
ATTEMPTS = 4
"""Times that one request is sent at most."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts at most, whatever the other side asks for."""
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer that is kept in memory."""
BUSY = frozenset({429, 502, 503, 504})
"""Answers that say: nothing was done, come back."""

Sink = Callable[[Iterator[bytes]], object]


@dataclass(frozen=True)
class Answer:
    """What a server said. `body` is empty when a sink took it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    where: str
    """Method and host of the request, for messages."""

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The JSON value of the body. Raises FailedError."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise kit.FailedError(f"{self.where}: the answer is not JSON; is this the right address?") from None

    def expect(self, what: str, hints: Mapping[int, str] | None = None) -> Answer:
        """Itself when it is good. Raises FailedError: what was tried, the status, what the server says, what to do."""
        if self.good:
            return self
        hint = (hints or {}).get(self.status, "")
        if "location" in self.headers:
            hint = f"it redirects to {place(self.headers['location'])}; give the final address"
        said = " ".join(self.text.split())[: kit.SHOWN]
        raise kit.FailedError("; ".join(filter(None, [f"{what}: {self.where}: status {self.status}", said, hint])))


@contextlib.contextmanager
def answers_from(who: str) -> Iterator[None]:
    """Around the reading of answers: one of another shape is somebody else's. Raises FailedError then."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError):
        raise kit.FailedError(f"the answer is not one of {who}; is the address right?") from None


def webhook() -> str:
    """The secret address in the input `webhook`: who knows it can post."""
    value = kit.hide(kit.text("webhook"))
    address("webhook")
    return value


def address(name: str, default: str = "") -> str:
    """An input that is the URL of a server, without slashes at its end. Without a default it is required."""
    value = (kit.text(name, default) or kit.needed(name)).rstrip("/")
    if not re.match(r"https?://[^/\s]", value, re.IGNORECASE):
        raise kit.InputError(f"`{name}` must be an address that begins with https:// or http://")
    return value


def place(url: str) -> str:
    """An URL in a message: scheme, host and port only, since paths and queries of webhooks are secrets."""
    match = re.match(r"(https?://)(?:[^/?#@]*@)?([^/?#]*)", url, re.IGNORECASE)
    return match[1] + match[2] if match else "the address"


class Http:
    """Requests to one server, sent again where that can help and does no harm.

    No redirects: credentials stay where they belong. Proxies are those of the environment, certificates the system's.
    """

    def __init__(self, headers: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None) -> None:
        self._client = httpx.Client(
            headers={"User-Agent": f"gocdnext-plugin-{kit.NAME}", **(headers or {})},
            auth=auth,
            timeout=TIMEOUT,
            verify=ssl.create_default_context(),
        )

    def send(
        self, method: str, url: str, *, repeat: bool = False, sink: Sink | None = None, **request: object
    ) -> Answer:
        """The answer, whatever its status. `request` is httpx's: params, headers, json, content, data.

        repeat: doing it twice is no harm, so a connection that breaks is another try; without it only one that was
        never made, and a server that says to come back. sink: takes a good body in pieces, as it was sent, from the start
        with each attempt. A value that can be called is called for each attempt, to open a file anew. Raises
        FailedError, InputError.
        """
        where = f"{method} {place(url)}"

        def once() -> Answer:
            with contextlib.ExitStack() as opened:
                fresh = {name: value() if callable(value) else value for name, value in request.items()}
                if hasattr(content := fresh.get("content"), "close"):
                    opened.callback(content.close)
                return self._once(self._client.build_request(method, url, **fresh), where, sink)  # type: ignore[arg-type]

        try:
            return _attempts(repeat)(once)
        except httpx.InvalidURL:
            raise kit.InputError("the address is no URL; look at the input that holds it") from None
        except httpx.RequestError as error:
            raise kit.FailedError(f"{where}: {error or type(error).__name__}") from None

    def _once(self, request: httpx.Request, where: str, sink: Sink | None) -> Answer:
        answer = self._client.send(request, stream=True)
        with contextlib.closing(answer):
            if sink is not None and answer.is_success:
                sink(answer.iter_raw())
                return Answer(answer.status_code, answer.headers, b"", where)
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise kit.FailedError(f"{where}: the answer is over {MAX_ANSWER // 1024**2} MiB")
            return Answer(answer.status_code, answer.headers, bytes(body), where)


def _attempts(repeat: bool) -> Retrying:
    """At most ATTEMPTS; pauses are the server's wish or grow, and are never longer than LONGEST_PAUSE."""
    backoff = wait_exponential_jitter(initial=0.5, max=LONGEST_PAUSE, jitter=0.5)

    def pause(state: RetryCallState) -> float:
        failed = state.outcome is None or state.outcome.failed
        wish = "" if failed else state.outcome.result().headers.get("retry-after", "")  # type: ignore[union-attr]
        return min(float(wish), LONGEST_PAUSE) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", wish) else backoff(state)

    broken = (httpx.TransportError,) if repeat else (httpx.ConnectError, httpx.ConnectTimeout)
    return Retrying(
        retry=retry_if_exception_type(broken) | retry_if_result(lambda answer: answer.status in BUSY),
        stop=stop_after_attempt(ATTEMPTS),
        wait=pause,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )


def save(path: Path) -> Sink:
    """Writes a body to a file, which is there only when it is complete."""

    def take(pieces: Iterator[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    return take
