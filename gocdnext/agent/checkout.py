"""Checks out the materials of a job with the git command line (protocol-agent 3.6; anchors E 11).

Credentials go into a file beside the job's directory, never into argv, the environment, the log or an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

import trio

from gocdnext.agent import environment, markers
from gocdnext.agent.joblog import STDERR, STDOUT, JobLog, LogSink
from gocdnext.agent.process import run_process
from gocdnext.agent.workspace import remove_tree
from gocdnext.proto.agent_pb2 import MaterialCheckout

TAIL = 4096
"""Bytes of git's error output that are kept for the error and for the decision about a second try."""
MAX_URL = 4096

_SCHEMES = frozenset({"https", "http", "ssh", "git", "file", "git+ssh", "ssh+git"})
_USERINFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/@\s]*@")
_SCP = re.compile(r"[^/\s:]+@?[^/\s:]*:(?!:)")
_NO_PARTIAL = re.compile(
    r"filter(ing|-spec|s)? .{0,40}not (supported|recognized|allowed)|does not support (filter|partial)|promis(or|ed)"
    r"|unadvertised object|missing blob|unable to read (sha1 file|tree)",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(
    r"authenticat|permission denied|access denied|could not read (username|password)|repository .{0,200}not found"
    r"|\b40[134]\b|could not resolve|timed? ?out|connection (refused|reset)|unreachable|ssl|certificate|host key",
    re.IGNORECASE,
)


class CheckoutError(Exception):
    """The text is shown to the user: `checkout <url>: <detail>`, without credentials."""


def redact(text: str) -> str:
    """`scheme://user:password@` becomes `scheme://***@`."""
    return _USERINFO.sub(r"\1***@", text)


def secrets_of(checkouts: Sequence[MaterialCheckout]) -> list[str]:
    """The passwords (or lone tokens) in the URLs: the job's log masks them as well."""
    found: list[str] = []
    for checkout in checkouts:
        userinfo, at, _ = _split(checkout.url).netloc.rpartition("@")
        if at and userinfo != "git":
            user, _, password = userinfo.partition(":")
            found += {password or user, unquote(password or user)}
    return found


def script_directory(work_dir: str, checkouts: Sequence[MaterialCheckout]) -> str:
    """Where tasks run: the first checkout's directory, or the job's own. CheckoutError when it is outside."""
    return _target(work_dir, checkouts[0]) if checkouts else work_dir


async def check_out(checkout: MaterialCheckout, work_dir: str, credentials: str, log: JobLog) -> None:
    """Clones and checks out one material. `credentials` is the path of a file that may be written for it and must
    live as long as the job: later git commands of the job (a partial clone fetches on demand) use it too.

    Raises CheckoutError. The only second try is one without the partial clone filter.
    """
    shown = redact(checkout.url)
    try:
        source = _Source.of(checkout, credentials)
        target = _target(work_dir, checkout)
    except CheckoutError as error:
        raise CheckoutError(f"checkout {shown}: {error}") from None
    if source.userinfo:
        user, _, password = source.userinfo.partition(":")
        _write_private(credentials, f"username={unquote(user)}\npassword={unquote(password)}\n")
    trouble = await _clone(source, checkout, target, work_dir, log, partial=not source.local)
    if trouble is not None and not source.local and _NO_PARTIAL.search(trouble) and not _ELSEWHERE.search(trouble):
        await log.line(markers.note("partial clone is not possible here; cloning in full"))
        await trio.to_thread.run_sync(_clear, target, work_dir)
        trouble = await _clone(source, checkout, target, work_dir, log, partial=False)
    if trouble is not None:
        raise CheckoutError(f"checkout {shown}: {log.mask(redact(trouble))}")


@dataclass(frozen=True)
class _Source:
    """A URL that may be given to git: the credentials taken out, `config` says where they are instead."""

    url: str
    parts: SplitResult
    host: str
    userinfo: str
    local: bool
    config: tuple[str, ...]

    @classmethod
    def of(cls, checkout: MaterialCheckout, credentials: str) -> _Source:
        url, parts = checkout.url, _split(checkout.url)
        if not url or url.startswith("-") or len(url) > MAX_URL or any(char in url for char in "\0\n\r"):
            raise CheckoutError("this is not a repository URL")
        local = parts.scheme == "file" or (not parts.scheme and not _SCP.match(url))
        if parts.scheme and parts.scheme not in _SCHEMES and not _SCP.match(url):
            raise CheckoutError(f"the scheme {parts.scheme!r} is not allowed")
        if "::" in url.split("/", 1)[0]:
            raise CheckoutError("remote helpers are not allowed")
        userinfo, at, host = parts.netloc.rpartition("@")
        if not at or parts.scheme not in {"https", "http"}:
            return cls(url, parts, host, "", local, ())
        if ":" not in userinfo:
            userinfo += ":"
        base = f"{parts.scheme}://{host}"
        if any(ord(char) < 32 for char in unquote(userinfo)):  # a line of its own for whom git asks
            raise CheckoutError("this is not a repository URL")
        # An empty helper first: helpers of the machine must neither answer for this host nor keep its token. Ours only
        # gives: git's own store would also write, where the file may be read-only.
        helper = f"credential.{base}.helper"
        gives = f'!give() {{ test "$1" != get || cat {_quoted(credentials)}; }}; give'
        config = ("-c", f"{helper}=", "-c", f"{helper}={gives}")
        return cls(parts._replace(netloc=host).geturl(), parts, host, userinfo, local, config)


async def _clone(
    source: _Source, checkout: MaterialCheckout, target: str, work_dir: str, log: JobLog, *, partial: bool
) -> str | None:
    """Clone, then the revision. Returns None, or what went wrong in git's words."""
    for value in (checkout.branch, checkout.revision):
        if value.startswith("-") or "\0" in value:
            return f"{value!r} is neither a branch nor a revision"
    options = ["--quiet"]
    options += ["--filter=blob:none"] if partial else []
    options += ["--branch", checkout.branch] if checkout.branch else []
    options += ["--no-checkout"] if checkout.revision else []
    shown = target.removeprefix(work_dir).lstrip(os.sep) or "."
    await log.line(markers.command(["git", "clone", *options, "--", redact(checkout.url), shown]))
    # `clone -c` also writes the setting into the new repository.
    trouble = await _git(["clone", *options, *source.config, "--", source.url, target], work_dir, log)
    if trouble is not None or not checkout.revision:
        return trouble
    await log.line(markers.command(["git", "-C", shown, "checkout", "--quiet", checkout.revision]))
    return await _git(["-C", target, "checkout", "--quiet", checkout.revision, "--"], work_dir, log)


async def _git(args: Sequence[str], cwd: str, log: JobLog) -> str | None:
    """Runs git with its output in the log. Returns None, or the end of its error output."""
    errors = _Tail(log.sink(STDERR))
    argv = ["git", "-c", "protocol.ext.allow=never", "-c", "advice.detachedHead=false", *args]
    try:
        code = await run_process(argv, cwd=cwd, env=environment.for_git(), stdout=log.sink(STDOUT), stderr=errors)
    except OSError as error:
        return f"git cannot be run on this agent: {error.strerror or error}"
    return None if code == 0 else errors.text() or f"git ended with {code}"


class _Tail:
    """Passes git's error output on to the log, without credentials, and keeps the end of it."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink
        self._kept = b""

    async def feed(self, chunk: bytes) -> None:
        self._kept = (self._kept + chunk)[-TAIL:]
        await self._sink.feed(chunk)

    async def finish(self) -> None:
        await self._sink.finish()

    def text(self) -> str:
        """One line: git's complaints, joined."""
        lines = self._kept.decode("utf-8", "replace").replace("\0", "").splitlines()
        return "; ".join(line.strip() for line in lines if line.strip())


def _split(url: str) -> SplitResult:
    """Its parts; no scheme for what is not of the form `scheme://`."""
    try:
        return urlsplit(url) if "://" in url else SplitResult("", "", url, "", "")
    except ValueError:  # e.g. an unfinished IPv6 address
        return SplitResult("", "", url, "", "")


def _target(work_dir: str, checkout: MaterialCheckout) -> str:
    """The absolute target. CheckoutError when it is outside, be it through a link that an earlier checkout brought."""
    wanted = checkout.target_dir
    path = os.path.normpath(os.path.join(work_dir, wanted))
    outside = os.path.isabs(wanted) or "\0" in wanted or not _inside(path, work_dir)
    if outside or not _inside(os.path.realpath(path), os.path.realpath(work_dir)):
        raise CheckoutError(f"the target directory {wanted!r} leaves the workspace")
    return path


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + os.sep)


def _clear(target: str, work_dir: str) -> None:
    """Removes what a failed clone left; the job's directory itself stays."""
    if target != work_dir:
        remove_tree(target)
        return
    for name in os.listdir(target):
        remove_tree(os.path.join(target, name))


def _quoted(path: str) -> str:
    """For the shell that git hands a helper's command line to."""
    return "'" + path.replace("'", "'\\''") + "'"


def _write_private(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
