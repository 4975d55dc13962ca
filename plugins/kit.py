"""What our plugins share: inputs, messages without secrets, commands, HTTP with bounded retries, outputs.

A plugin is a program. Its inputs are PLUGIN_* variables, its directory is that of the job; it ends with 0 when the work
is done, with 2 when an input is wrong, with a tool's own code when a tool failed, else with 1. What it prints begins
with its name. Secrets go to tools in variables or in files in memory, never in arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState, Retrying

NAME = Path(sys.argv[0]).parent.name
"""The plugin that runs."""
EXIT_FAILED, EXIT_INPUT = 1, 2
TIMEOUT = 30.0
"""Seconds to wait for a connection, and for each piece of an answer."""
ATTEMPTS = 4
"""Times that one request is sent at most."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts at most, whatever the other side asks for."""
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer that is kept in memory."""
MAX_TEXT = 1024 * 1024
"""Bytes of a text file that is read as an input."""
SHOWN = 500
"""Characters of somebody else's error text that are shown."""
BUSY = frozenset({429, 502, 503, 504})
"""Answers that say: nothing was done, come back."""

Sink = Callable[[Iterator[bytes]], object]

_secrets: list[str] = []


class InputError(Exception):
    """An input is missing or wrong; the text names it and says what to write."""


class FailedError(Exception):
    """The work could not be done; the text says why and what to do."""

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


# Inputs. An empty one counts as left out.


def text(name: str, default: str = "") -> str:
    """The input `name` of the manifest, outer blanks removed."""
    return os.environ.get(_variable(name), "").strip() or default


def block(name: str, default: str = "") -> str:
    """An input of several lines, kept as it is."""
    value = os.environ.get(_variable(name), "")
    return value if value.strip() else default


def needed(name: str) -> str:
    """A required input. Raises InputError when it is empty."""
    return _present(name, text(name))


def needed_block(name: str) -> str:
    """A required input of several lines."""
    return _present(name, block(name))


def secret(name: str) -> str:
    """A secret input: it is kept out of everything that this module prints."""
    return hide(text(name))


def needed_secret(name: str) -> str:
    """A required secret input."""
    return _present(name, secret(name))


def flag(name: str, default: bool) -> bool:
    """A switch: true or false."""
    value = text(name).lower()
    if value not in ("", "true", "false", "1", "0", "yes", "no"):
        raise InputError(f"`{name}` is {shown(value)}; write true or false")
    return value in ("true", "1", "yes") if value else default


def number(name: str, default: int, low: int, high: int) -> int:
    """A whole number within bounds."""
    value = text(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
        raise InputError(f"`{name}` is {shown(value)}; write a whole number from {low} to {high}")
    return int(value)


def choice(name: str, options: Sequence[str], default: str = "") -> str:
    """One of several words. Without a default the input is required."""
    value = text(name, default) or needed(name)
    if value not in options:
        raise InputError(f"`{name}` is {shown(value)}; write {' or '.join(options)}")
    return value


def variable(name: str) -> str:
    """A credential that is read from the job's environment, not from an input; empty when it is not there."""
    return hide(os.environ.get(name, "").strip())


def _variable(name: str) -> str:
    return "PLUGIN_" + name.replace("-", "_").upper()


def _present(name: str, value: str) -> str:
    if not value.strip():
        raise InputError(f"the input `{name}` is missing; set it under `with:`")
    return value


# Messages


def hide(value: str) -> str:
    """From now on the value, and each line of it, is `***` in what is printed. Returns the value."""
    parts = {part.strip() for part in [value, *value.splitlines()] if len(part.strip()) >= 4}
    _secrets.extend(parts - set(_secrets))
    _secrets.sort(key=len, reverse=True)
    return value


def masked(message: str) -> str:
    """The message without secrets."""
    for value in _secrets:
        message = message.replace(value, "***")
    return message


def say(message: str) -> None:
    """A line of the log."""
    print(f"{NAME}: {masked(message)}", flush=True)


def shown(value: str) -> str:
    """A value in a message: quoted and cut."""
    return repr(value if len(value) <= 80 else f"{value[:80]}…")


def main(work: Callable[[], int | None]) -> NoReturn:
    """Runs a plugin and ends the process with its exit code; its errors are one line each."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    code: int | None
    try:
        code = work()
    except InputError as error:
        code = _complain(error, EXIT_INPUT)
    except FailedError as error:
        code = _complain(error, error.code)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        code = _complain(what, EXIT_FAILED)
    sys.stdout.flush()
    sys.exit(code or 0)


def _complain(error: object, code: int) -> int:
    print(f"{NAME}: error: {masked(str(error))}", file=sys.stderr, flush=True)
    return code


def about() -> str:
    """The run in a line, as far as the server has said: `shop/ci #41 failed on main (1a2b3c4d)`."""

    def known(*names: str) -> str:
        return next(filter(None, (os.environ.get(name, "").strip() for name in names)), "")

    pipeline = "/".join(filter(None, [known("CI_PROJECT_SLUG"), known("CI_PIPELINE_NAME", "CI_PIPELINE")]))
    words = [
        pipeline or "a pipeline",
        f"#{known('CI_RUN_COUNTER')}" if known("CI_RUN_COUNTER") else "",
        known("CI_PIPELINE_STATUS") or f"job {known('CI_JOB_NAME') or 'without a name'}",
        f"on {known('CI_BRANCH')}" if known("CI_BRANCH") else "",
        f"({known('CI_COMMIT_SHORT_SHA')})" if known("CI_COMMIT_SHORT_SHA") else "",
        known("CI_RUN_URL"),
    ]
    return " ".join(filter(None, words))


def cut(message: str, limit: int) -> str:
    """The message, or the beginning of it where a service takes no more."""
    return message if len(message) <= limit else f"{message[: limit - 2]} …"


# Directories and files


def enter(name: str = "working-dir") -> Path:
    """Changes into the directory that an input names and returns it. Raises InputError when it is none."""
    value = text(name, ".")
    try:
        os.chdir(value)
    except OSError as error:
        raise InputError(f"`{name}` is {shown(value)}: {error.strerror}") from None
    return Path.cwd()


def read(name: str) -> str:
    """The text of the file that an input names. Raises InputError when it cannot be."""
    path = Path(text(name))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise InputError(f"`{name}` is {shown(str(path))}: {error.strerror}") from None
    if len(content) > MAX_TEXT:
        raise InputError(f"`{name}` is {shown(str(path))}: larger than {MAX_TEXT // 1024} KiB")
    return content.decode("utf-8", "replace")


def write(path: str, content: str) -> None:
    """Writes a file of the job; its folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content, encoding="utf-8")


def deliver(path: str, values: Mapping[str, str]) -> None:
    """Writes KEY=value lines to a file of the job and, when the job declares outputs, to its outputs file."""
    lines = "".join(f"{key}={' '.join(value.split())}\n" for key, value in values.items())
    write(path, lines)
    outputs = os.environ.get("GOCDNEXT_OUTPUT_FILE", "")
    if outputs:
        with open(outputs, "a", encoding="utf-8") as file:
            file.write(lines)


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


def memory_file(content: str, mode: int = 0o600) -> str:
    """The path of a file that exists in memory, for as long as this process does: tools that we start can open it.

    A credential in it never is on a disk, also when the job is cancelled and nobody gets to remove anything.
    """
    number = os.memfd_create("gocdnext")
    os.fchmod(number, mode)
    os.write(number, content.encode())
    return f"/proc/{os.getpid()}/fd/{number}"


# Commands


def program(name: str, hint: str) -> str:
    """The path of a tool. Raises FailedError with the hint when it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise FailedError(f"there is no `{name}` on this machine; {hint}", 127)
    return found


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Runs a tool with our output as its output; returns its exit code as a shell would tell it."""
    sys.stdout.flush()
    try:
        done = subprocess.run(command, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise FailedError(f"cannot start {command[0]}: {error.strerror}", 126) from None
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def shell(command: str, env: Mapping[str, str] | None = None) -> int:
    """Runs a text in bash, or in sh where there is none; like a script of a job it stops at the first failure."""
    return run([shutil.which("bash") or "sh", "-e", "-c", command], env)


def git(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What a git command prints. Raises FailedError with git's own words."""
    command = [program("git", "install git"), "-c", "safe.directory=*", *arguments]
    quiet = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(env or {})}
    done = subprocess.run(
        command, env={**os.environ, **quiet}, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip()
        raise FailedError(f"git {_subcommand(arguments)}: {without_credentials(words)[-SHOWN:]}", done.returncode)
    return done.stdout.decode("utf-8", "replace")


def _subcommand(arguments: Sequence[str]) -> str:
    """The word after git's own options."""
    left = iter(arguments)
    for argument in left:
        if argument == "-c":
            next(left, "")
        else:
            return argument
    return ""


def without_credentials(message: str) -> str:
    """The message with what stands before the host of an URL replaced."""
    return re.sub(r"://[^/\s@]+@", "://***@", message)


# HTTP


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
            raise FailedError(f"{self.where}: the answer is not JSON; is this the right address?") from None

    def expect(self, what: str, hints: Mapping[int, str] | None = None) -> Answer:
        """Itself when it is good. Raises FailedError: what was tried, the status, what the server says, what to do."""
        if self.good:
            return self
        hint = (hints or {}).get(self.status, "")
        if "location" in self.headers:
            hint = f"it redirects to {place(self.headers['location'])}; give the final address"
        said = " ".join(self.text.split())[:SHOWN]
        raise FailedError("; ".join(filter(None, [f"{what}: {self.where}: status {self.status}", said, hint])))


@contextlib.contextmanager
def answers_from(who: str) -> Iterator[None]:
    """Around the reading of answers: one of another shape is somebody else's. Raises FailedError then."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError):
        raise FailedError(f"the answer is not one of {who}; is the address right?") from None


def webhook() -> str:
    """The secret address in the input `webhook`: who knows it can post."""
    value = hide(text("webhook"))
    address("webhook")
    return value


def address(name: str, default: str = "") -> str:
    """An input that is the URL of a server, without slashes at its end. Without a default it is required."""
    value = (text(name, default) or needed(name)).rstrip("/")
    if not re.match(r"https?://[^/\s]", value, re.IGNORECASE):
        raise InputError(f"`{name}` must be an address that begins with https:// or http://")
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
        import httpx

        self._client = httpx.Client(
            headers={"User-Agent": f"gocdnext-plugin-{NAME}", **(headers or {})},
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
        import httpx

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
            raise InputError("the address is no URL; look at the input that holds it") from None
        except httpx.RequestError as error:
            raise FailedError(f"{where}: {error or type(error).__name__}") from None

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
                    raise FailedError(f"{where}: the answer is over {MAX_ANSWER // 1024**2} MiB")
            return Answer(answer.status_code, answer.headers, bytes(body), where)


def _attempts(repeat: bool) -> Retrying:
    """At most ATTEMPTS; pauses are the server's wish or grow, and are never longer than LONGEST_PAUSE."""
    import httpx
    from tenacity import Retrying, retry_if_exception_type, retry_if_result, stop_after_attempt
    from tenacity.wait import wait_exponential_jitter

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
