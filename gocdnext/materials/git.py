"""Asking a git repository through the git command line: the heads of branches. What is in it is read by `folders`.

Every call is bounded in time and output, never prompts, never goes where a server sends it, and never lets a url or ref act
as an option or a helper program. Errors carry git's own reason without credentials. Nothing here touches the database.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO
from urllib.parse import unquote

import trio

HEAD_TIMEOUT = 20.0
"""Seconds to learn the head of a branch."""
MAX_OUTPUT = 1024 * 1024
"""Bytes of git's output that are read when a few lines are expected."""
WATCH_EVERY = 0.1
"""Seconds between two looks at how much git has written."""
MAX_BRANCHES = 1000
"""Branches of one repository that one question names: their names and the answer fit."""

_SETTINGS = ("protocol.ext.allow=never", "core.fsmonitor=false", "http.followRedirects=false")
_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=10",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
_KEPT = ("PATH", "HOME", "SSH_AUTH_SOCK", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy")
NO_SECRET: Mapping[str, str] = MappingProxyType({})
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_MOVED = re.compile(r"returned error: 30\d|unable to update url base from redirection")
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SCHEMES = ("http://", "https://", "ssh://", "git://", "file://")
_SCP = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_][A-Za-z0-9._-]*:(?!:)[^\s]+")
_REF = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\-][^\x00-\x20\x7f~^:?*\[\\]*")


class GitError(Exception):
    """git did not give what was asked; the text is its reason, safe to show."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What lets the server into a repository over http(s)."""

    user: str
    password: str = field(repr=False)


def without_credentials(text: str) -> str:
    """A url, or a text with urls in it, without user names and passwords."""
    return _CREDENTIALS.sub("", text)


def has_credentials(url: str) -> bool:
    """Whether an http(s) url carries a user name or password."""
    return url.startswith(("http://", "https://")) and _CREDENTIALS.search(url) is not None


def check_url(url: str) -> None:
    """Raises GitError for anything but a repository url or an absolute path: no options, no helper programs."""
    plain = url.startswith(_SCHEMES) or url.startswith("/") or ("://" not in url and _SCP.fullmatch(url))
    if not plain or not url.isprintable() or len(url) > 2048:
        raise GitError(
            "not a repository url: expected https://, ssh://, git://, file://, user@host:path or an absolute path"
        )
    if (host := url.partition("://")[2]).startswith("-") or host.partition("@")[2].startswith("-"):
        raise GitError("not a repository url: a host name cannot begin with `-`")


def check_branch(branch: str) -> None:
    """Raises GitError for what cannot be the name of a branch."""
    if not _REF.fullmatch(branch) or ".." in branch or branch.endswith((".lock", "/", ".")) or len(branch) > 255:
        raise GitError(f"not the name of a branch: {branch[:80]!r}")


def is_commit(text: str) -> bool:
    """Whether a text is the full id of a commit."""
    return _HASH.fullmatch(text) is not None


async def head(url: str, branch: str, *, credential: Credential | None = None, timeout: float = HEAD_TIMEOUT) -> str:
    """The commit at the head of a branch, as lower-case hex. Raises GitError."""
    return the_one(await heads(url, (branch,), credential=credential, timeout=timeout), branch)


def the_one(found: Mapping[str, str], branch: str) -> str:
    """The head of a branch among those that were found. Raises GitError."""
    if branch not in found:
        raise GitError(f"the repository has no branch {branch!r}")
    return found[branch]


async def heads(
    url: str,
    branches: Collection[str],
    *,
    credential: Credential | None = None,
    settings: tuple[str, ...] = (),
    timeout: float = HEAD_TIMEOUT,
) -> dict[str, str]:
    """The commits at the heads of those of the branches that exist, by branch; one question. Raises GitError.

    At most MAX_BRANCHES may be asked for. `settings` are more of git's configuration.
    """
    check_url(url)
    for branch in branches:
        check_branch(branch)
    if len(branches) > MAX_BRANCHES:
        raise GitError(f"more than {MAX_BRANCHES} branches of one repository")
    wanted = {f"refs/heads/{branch}": branch for branch in branches}
    plain, secret = apart(url, credential)
    with within(timeout):
        output = await run(("ls-remote", "--", plain, *wanted), Path("/"), MAX_OUTPUT, secret, settings=settings)
    found: dict[str, str] = {}
    for line in output.decode(errors="replace").splitlines():
        commit, _, name = line.partition("\t")
        # `refs/heads/main` is also how the branch `x/refs/heads/main` ends.
        if name in wanted and _HASH.fullmatch(commit):
            found[wanted[name]] = commit
    return found


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise GitError(f"no answer within {seconds:g} s") from None


def credential_in(url: str) -> Credential | None:
    """The user name and password that an http(s) url carries."""
    if not has_credentials(url):
        return None
    user, _, password = url.partition("://")[2].partition("/")[0].rpartition("@")[0].partition(":")
    return Credential(unquote(user), unquote(password))


def apart(url: str, credential: Credential | None = None) -> tuple[str, dict[str, str]]:
    """An http(s) url without its user name and password, and the environment that gives them to git instead; what the url
    itself says wins over `credential`.

    Everybody on the machine can read the arguments of a process; its environment only its owner.
    """
    credential = credential_in(url) or credential
    if credential is None or not url.startswith(("http://", "https://")):
        return url, {}
    plain = without_credentials(url)
    scheme, _, rest = plain.partition("://")
    word = base64.b64encode(f"{credential.user}:{credential.password}".encode()).decode()
    return plain, {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{scheme}://{rest.partition('/')[0]}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {word}",
    }


async def run(
    arguments: tuple[str, ...],
    where: Path,
    limit: int,
    secret: Mapping[str, str] = NO_SECRET,
    *,
    settings: tuple[str, ...] = (),
    given: Path | None = None,
    room: int | None = None,
) -> bytes:
    """Runs git in `where` and returns at most `limit` bytes of output. Raises GitError with its last words.

    `secret` are more variables of its environment, `settings` more of its configuration, `given` is a file that it reads.
    With `room`, the folder may not grow beyond so many bytes.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _QUIET | dict(secret)
    options = [word for setting in (*_SETTINGS, *settings) for word in ("-c", setting)]
    out, err = bytearray(), bytearray()
    excess = ""
    with _input(given) as stdin:
        try:
            process = await trio.lowlevel.open_process(
                ["git", *options, *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=where,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise GitError(f"git cannot be started: {error.strerror}; install git on the server") from error
    try:
        async with trio.open_nursery() as nursery:

            async def full(text: str) -> None:
                nonlocal excess
                excess = text
                nursery.cancel_scope.cancel()

            async def follow() -> None:
                if not await _read(process.stdout, out, limit):
                    await full(f"more than {limit} bytes of output")
                await process.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(_keep_end, process.stderr, err)
            nursery.start_soon(follow)
            if room is not None:
                await _watch(where, room)
                await full(f"more than {room // 1024**2} MiB came from the repository")
        if excess:
            raise GitError(excess)
    finally:
        await _end(process)
    if process.returncode != 0:
        raise GitError(_last_words(err.decode(errors="replace"), process.returncode))
    return bytes(out)


def _input(given: Path | None) -> BinaryIO:
    return open(given or os.devnull, "rb")


async def _watch(where: Path, room: int) -> None:
    """Returns when the files below a folder are larger than `room` bytes together."""
    while _size(where) <= room:  # noqa: ASYNC110  nobody tells how large files have become
        await trio.sleep(WATCH_EVERY)


def _size(where: Path) -> int:
    found = 0
    for folder, _, names in os.walk(where):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found += os.lstat(os.path.join(folder, name)).st_size
    return found


async def _keep_end(stream: trio.abc.ReceiveStream | None, kept: bytearray) -> None:
    """Reads a stream to its end, keeping the last 4 KiB."""
    assert stream is not None
    async with stream:
        async for piece in stream:
            kept.extend(piece)
            del kept[:-4096]


async def _read(stream: trio.abc.ReceiveStream | None, into: bytearray, limit: int) -> bool:
    """Reads a stream to its end; False as soon as it has more than `limit` bytes."""
    assert stream is not None
    async with stream:
        async for piece in stream:
            into.extend(piece)
            if len(into) > limit:
                return False
    return True


async def _end(process: trio.Process) -> None:
    """Leaves no process behind: git and its transport helpers are one group, and have nothing they could lose."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # Short: a killed process only has to be collected.
    with trio.CancelScope(shield=True):
        await process.wait()


def _last_words(text: str, status: int | None) -> str:
    """The line of git's complaint that says most, on one line and without credentials."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ssh:"))] or lines[-1:]
    words = "; ".join(told[:2]) or f"git ended with status {status}"
    if _MOVED.search(words):
        words += " (the server sends git elsewhere, where it does not go: use the url that the repository has now)"
    return "".join(c if c.isprintable() else " " for c in without_credentials(words))[:500]
