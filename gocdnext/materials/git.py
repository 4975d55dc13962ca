"""Asking a git repository through the git command line: the head of a branch, the files of a folder.

Every call is bounded in time and output, never prompts, and never lets a url or ref act as an option or a helper
program. Errors carry git's own reason without credentials. Nothing here touches the database.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

import trio

HEAD_TIMEOUT = 20.0
"""Seconds to learn the head of a branch."""
FETCH_TIMEOUT = 60.0
"""Seconds to fetch a configuration folder, all commands together."""
MAX_OUTPUT = 1024 * 1024
"""Bytes of git's output that are read when a few lines are expected."""
MAX_FOLDER = 5 * 1024 * 1024
"""Bytes of all files of a configuration folder together, as for an apply with files (spec-pipelines 7)."""
MAX_FILES = 1000
MAX_BRANCHES = 1000
"""Branches of one repository that one question names: their names and the answer fit."""

_OPTIONS = ("-c", "protocol.ext.allow=never", "-c", "core.fsmonitor=false")
_SHALLOW = ("--quiet", "--bare", "--depth=1", "--single-branch", "--no-tags", "--filter=blob:none")
_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=10",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
_KEPT = ("PATH", "HOME", "SSH_AUTH_SOCK", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SCHEMES = ("http://", "https://", "ssh://", "git://", "file://")
_SCP = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_][A-Za-z0-9._-]*:(?!:)[^\s]+")
_REF = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\-][^\x00-\x20\x7f~^:?*\[\\]*")


class GitError(Exception):
    """git did not give what was asked; the text is its reason, safe to show."""


class FolderMissingError(GitError):
    """The repository and branch are there, the folder is not."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: its name without the folder, and its bytes."""

    name: str
    content: bytes


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


async def head(url: str, branch: str, *, timeout: float = HEAD_TIMEOUT) -> str:
    """The commit at the head of a branch, as lower-case hex. Raises GitError."""
    found = await heads(url, (branch,), timeout=timeout)
    if branch not in found:
        raise GitError(f"the repository has no branch {branch!r}")
    return found[branch]


async def heads(url: str, branches: Collection[str], *, timeout: float = HEAD_TIMEOUT) -> dict[str, str]:
    """The commits at the heads of those of the branches that exist, by branch; one question. Raises GitError.

    At most MAX_BRANCHES may be asked for.
    """
    check_url(url)
    for branch in branches:
        check_branch(branch)
    if len(branches) > MAX_BRANCHES:
        raise GitError(f"more than {MAX_BRANCHES} branches of one repository")
    wanted = {f"refs/heads/{branch}": branch for branch in branches}
    plain, secret = _apart(url)
    with _within(timeout):
        output = await _git(("ls-remote", "--", plain, *wanted), Path("/"), MAX_OUTPUT, secret)
    found: dict[str, str] = {}
    for line in output.decode(errors="replace").splitlines():
        commit, _, name = line.partition("\t")
        # `refs/heads/main` is also how the branch `x/refs/heads/main` ends.
        if name in wanted and _HASH.fullmatch(commit):
            found[wanted[name]] = commit
    return found


async def folder(
    url: str, branch: str, path: str, wanted: Callable[[str], bool], *, timeout: float = FETCH_TIMEOUT
) -> list[RemoteFile]:
    """The regular files directly in folder `path` at the head of `branch` whose name is `wanted`, by name.

    A `path` that is itself a wanted file is a set of one. Raises FolderMissingError, GitError.
    """
    check_url(url)
    check_branch(branch)
    with tempfile.TemporaryDirectory(prefix="gocdnext-config-") as name, _within(timeout):
        where = Path(name)
        plain, secret = _apart(url)
        await _git(("clone", *_SHALLOW, f"--branch={branch}", "--", plain, "repository"), where, MAX_OUTPUT, secret)
        return await _read_folder(where / "repository", path, wanted, secret)


async def _read_folder(
    repository: Path, path: str, wanted: Callable[[str], bool], secret: Mapping[str, str]
) -> list[RemoteFile]:
    """`secret` as for `_git`: what the clone has left out is fetched when it is read."""
    single = wanted(path.rpartition("/")[2])
    tree = f"HEAD:{path.rpartition('/')[0]}" if single else f"HEAD:{path}"
    try:
        listing = await _git(("ls-tree", "-z", tree), repository, MAX_OUTPUT)
    except GitError as error:
        raise FolderMissingError(f"no folder {path!r} at the head of the branch") from error
    found: list[RemoteFile] = []
    left = MAX_FOLDER
    for entry in listing.decode(errors="replace").split("\0"):
        meta, _, name = entry.partition("\t")
        if not meta.startswith("100") or not wanted(name) or (single and name != path.rpartition("/")[2]):
            continue
        if len(found) == MAX_FILES:
            raise GitError(f"more than {MAX_FILES} files in {path!r}")
        content = await _git(("cat-file", "blob", meta.split()[2]), repository, left, secret)
        left -= len(content)
        found.append(RemoteFile(name, content))
    if single and not found:
        raise FolderMissingError(f"no file {path!r} at the head of the branch")
    return sorted(found, key=lambda file: file.name)


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise GitError(f"no answer within {seconds:g} s") from None


def _apart(url: str) -> tuple[str, dict[str, str]]:
    """An http(s) url without its user name and password, and the environment that gives them to git instead.

    Everybody on the machine can read the arguments of a process; its environment only its owner.
    """
    if not has_credentials(url):
        return url, {}
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user_info, _, host = authority.rpartition("@")
    user, _, password = user_info.partition(":")
    word = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return f"{scheme}://{host}{slash}{path}", {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{scheme}://{host}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {word}",
    }


async def _git(
    arguments: tuple[str, ...], where: Path, limit: int, secret: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """Runs git and returns at most `limit` bytes of output. Raises GitError with its last words.

    `secret` are more variables of its environment.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _QUIET | dict(secret)
    out, err = bytearray(), bytearray()
    try:
        process = await trio.lowlevel.open_process(
            ["git", *_OPTIONS, *arguments],
            stdin=subprocess.DEVNULL,
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
            nursery.start_soon(_keep_end, process.stderr, err)
            fits = await _read(process.stdout, out, limit)
            if not fits:
                nursery.cancel_scope.cancel()
        if not fits:
            raise GitError(f"more than {limit} bytes of output")
        await process.wait()
    finally:
        await _end(process)
    if process.returncode != 0:
        raise GitError(_last_words(err.decode(errors="replace"), process.returncode))
    return bytes(out)


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
    return "".join(c if c.isprintable() else " " for c in without_credentials(words))[:500]
