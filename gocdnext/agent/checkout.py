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

from gocdnext.agent import markers
from gocdnext.agent.git import git, redact
from gocdnext.agent.joblog import STDERR, JobLog
from gocdnext.agent.mirror_git import Wanted, copy, refresh
from gocdnext.agent.mirrors import Mirror, Mirrors
from gocdnext.agent.parts import complete
from gocdnext.agent.workspace import remove_tree
from gocdnext.proto.agent_pb2 import MaterialCheckout

MAX_URL = 4096

_SCHEMES = frozenset({"https", "http", "ssh", "git", "file", "git+ssh", "ssh+git"})
_SCP = re.compile(r"[^/\s:]+@?[^/\s:]*:(?!:)")
_PASSWORD = re.compile(r"[^/]*//[^/@]*:[^/@]*@")
_NO_BRANCH = re.compile(r"Remote branch .* not found")
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


async def check_out(
    checkout: MaterialCheckout, work_dir: str, credentials: str, log: JobLog, mirrors: Mirrors | None = None
) -> None:
    """Clones and checks out one material with its submodules and large files. `credentials` is the path of a file that
    may be written for it and must live as long as the job: later git commands of the job (a partial clone fetches on
    demand) use it too.

    Raises CheckoutError. A second try is made without a mirror that is of no use, and one without the filter of a
    partial clone; for nothing else.
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
    trouble = await _obtain(source, checkout, target, work_dir, log, mirrors)
    if trouble is None:
        trouble = await complete(target, work_dir, source.config, log)
    if trouble is not None:
        raise CheckoutError(f"checkout {shown}: {log.mask(redact(trouble))}")


async def _obtain(
    source: _Source, checkout: MaterialCheckout, target: str, work_dir: str, log: JobLog, mirrors: Mirrors | None
) -> str | None:
    """By way of the mirror if there may be one, else from the server. Returns None, or what went wrong."""
    for value in (checkout.branch, checkout.revision):
        if value.startswith("-") or any(char in value for char in "\0\n"):
            return f"{value!r} is neither a branch nor a revision"
    if mirrors is None or source.local or _PASSWORD.match(source.url):
        return await _clone_twice(source, checkout, target, work_dir, log)
    async with mirrors.locked(source.url) as mirror:
        if mirror is None:
            return await _clone_twice(source, checkout, target, work_dir, log)
        await _echo_clone(checkout, target, work_dir, log, partial=True)
        refs = Wanted(source.url, checkout.branch, checkout.revision, source.config)
        trouble = await refresh(mirror, refs)
        if trouble is None:
            trouble = await _clone(source, checkout, target, work_dir, log, partial=True, mirror=mirror)
        if trouble is None or _NO_BRANCH.search(trouble):
            return trouble
        if _ELSEWHERE.search(trouble):
            await log.line(redact(trouble), STDERR)
            return trouble
        await log.line(markers.note("the mirror of this repository is of no use; cloning from the server"))
        await trio.to_thread.run_sync(_clear, target, work_dir)
        trouble = await _clone_twice(source, checkout, target, work_dir, log)
        if trouble is None and mirror.exclusive():  # so it was the mirror: the next checkout makes a new one
            await mirror.remove()
        return trouble


async def _clone_twice(
    source: _Source, checkout: MaterialCheckout, target: str, work_dir: str, log: JobLog
) -> str | None:
    trouble = await _clone(source, checkout, target, work_dir, log, partial=not source.local)
    if trouble is not None and not source.local and _NO_PARTIAL.search(trouble) and not _ELSEWHERE.search(trouble):
        await log.line(markers.note("partial clone is not possible here; cloning in full"))
        await trio.to_thread.run_sync(_clear, target, work_dir)
        trouble = await _clone(source, checkout, target, work_dir, log, partial=False)
    return trouble


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
    source: _Source,
    checkout: MaterialCheckout,
    target: str,
    work_dir: str,
    log: JobLog,
    *,
    partial: bool,
    mirror: Mirror | None = None,
) -> str | None:
    """Clone, from the server or a copy of the mirror, then the revision. Returns None, or what went wrong in git's
    words."""
    options, shown = _words(checkout, target, work_dir, partial=partial)
    # `clone -c` also writes the setting into the new repository.
    if mirror is None:
        await _echo_clone(checkout, target, work_dir, log, partial=partial)
        trouble = await git(["clone", *options, *source.config, "--", source.url, target], work_dir, log)
    else:
        mirror.share()
        trouble = await copy(mirror, source.url, [*options, *source.config], target, work_dir, log)
    if trouble is not None or not checkout.revision:
        return trouble
    await log.line(markers.command(["git", "-C", shown, "checkout", "--quiet", checkout.revision]))
    return await git(["-C", target, "checkout", "--quiet", checkout.revision, "--"], work_dir, log)


async def _echo_clone(checkout: MaterialCheckout, target: str, work_dir: str, log: JobLog, *, partial: bool) -> None:
    options, shown = _words(checkout, target, work_dir, partial=partial)
    await log.line(markers.command(["git", "clone", *options, "--", redact(checkout.url), shown]))


def _words(checkout: MaterialCheckout, target: str, work_dir: str, *, partial: bool) -> tuple[list[str], str]:
    """The options of the clone, and the name of the target in the log."""
    options = ["--quiet"]
    options += ["--filter=blob:none"] if partial else []
    options += ["--branch", checkout.branch] if checkout.branch else []
    options += ["--no-checkout"] if checkout.revision else []
    return options, target.removeprefix(work_dir).lstrip(os.sep) or "."


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
