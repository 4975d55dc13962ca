"""What git does with a mirror: bring it up to date, and copy it into a job's directory. Where mirrors are is mirrors.py.

A mirror is a partial clone, like those of the jobs: commits and trees of everything, files of what was checked out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from gocdnext.agent.git import Tail, git, quiet_git
from gocdnext.agent.joblog import JobLog
from gocdnext.agent.mirrors import Mirror

MAX_LISTING = 256 * 1024 * 1024
"""Bytes of the list of a revision's objects: six million of them."""

_PARTIAL = ("remote.origin.promisor=true", "remote.origin.partialclonefilter=blob:none")
"""What makes a repository a partial clone."""


@dataclass(frozen=True)
class Wanted:
    """What a checkout needs. `url` is without credentials; `config` are the words that let git in."""

    url: str
    branch: str
    revision: str
    config: tuple[str, ...]


async def refresh(mirror: Mirror, wanted: Wanted) -> str | None:
    """Fetches what is new, and the files of the revision. Returns None, or what went wrong."""
    if not await trio.to_thread.run_sync(mirror.usable):
        trouble = await _make(mirror, wanted.url)
        if trouble is not None:
            return trouble
    # Everything that moves is forced and everything that is gone is pruned: a mirror has no opinion of its own.
    fetch = ["fetch", "--quiet", "--prune", "--force", "--no-write-fetch-head", "--filter=blob:none", "origin"]
    trouble = await quiet_git([*wanted.config, *fetch], mirror.path)
    if trouble is None and not wanted.branch:
        trouble = await _point_head(mirror, wanted)
    return trouble or await _fetch_files(mirror, wanted)


async def copy(mirror: Mirror, url: str, options: Sequence[str], target: str, work_dir: str, log: JobLog) -> str | None:
    """A clone of the mirror that looks like one of `url`. Returns None, or what went wrong."""
    # Copied, not linked: a job may write into the files of its repository, and would write into everybody's.
    words = [option for option in options if not option.startswith("--filter") and option != "--no-checkout"]
    words += [word for setting in _PARTIAL for word in ("-c", setting)]
    clone = ["clone", "--local", "--no-hardlinks", "--no-checkout", *words, "--", mirror.path, target]
    trouble = await git(clone, work_dir, log)
    # Before the checkout: what the copy lacks is fetched from the server then, and not from the mirror.
    trouble = trouble or await quiet_git(["-C", target, "config", "remote.origin.url", url], work_dir)
    if trouble is None and "--no-checkout" not in options:
        trouble = await git(["-C", target, "checkout", "--quiet", "HEAD", "--"], work_dir, log)
    return trouble


async def _make(mirror: Mirror, url: str) -> str | None:
    await mirror.remove()  # what is damaged, or a killed agent left of it
    trouble = await quiet_git(["init", "--quiet", "--bare", "--", mirror.path], os.path.dirname(mirror.path))
    settings = (
        *(setting.split("=", 1) for setting in _PARTIAL),
        ("remote.origin.url", url),
        ("remote.origin.fetch", "+refs/heads/*:refs/heads/*"),
        # The agent kills what a command leaves behind, and would kill this.
        ("gc.autoDetach", "false"),
    )
    for name, value in settings:
        trouble = trouble or await quiet_git(["config", name, value], mirror.path)
    return trouble or await quiet_git(
        ["config", "--add", "remote.origin.fetch", "+refs/tags/*:refs/tags/*"], mirror.path
    )


async def _point_head(mirror: Mirror, wanted: Wanted) -> str | None:
    """HEAD to the branch that the server's HEAD is."""
    found = Tail()
    trouble = await quiet_git([*wanted.config, "ls-remote", "--symref", "origin", "HEAD"], mirror.path, found)
    head = found.kept.decode("utf-8", "replace").partition("\t")[0].removeprefix("ref: ")
    if trouble is None and head.startswith("refs/heads/"):
        trouble = await quiet_git(["symbolic-ref", "HEAD", head], mirror.path)
    return trouble


async def _fetch_files(mirror: Mirror, wanted: Wanted) -> str | None:
    """The files of the revision that are not here yet, all in one go."""
    revision = await _resolved(mirror, wanted)
    if revision is None:
        return None  # the clone will say that there is no such branch
    listing = Tail(limit=MAX_LISTING)
    walk = ["rev-list", "--objects", "--no-object-names", "--missing=print", f"{revision}^{{tree}}", "--"]
    trouble = await quiet_git([*wanted.config, *walk], mirror.path, listing)
    missing = b"".join(line[1:] + b"\n" for line in listing.kept.splitlines() if line.startswith(b"?"))
    if trouble is not None or not missing:
        return trouble
    # The very command with which git itself fetches what a partial clone lacks.
    fetch = ["fetch", "origin", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none"]
    words = [*wanted.config, "-c", "fetch.negotiationAlgorithm=noop", *fetch, "--quiet", "--refmap=", "--stdin"]
    descriptor = os.memfd_create("objects")
    try:
        os.write(descriptor, missing)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return await quiet_git(words, mirror.path, stdin=descriptor)
    finally:
        os.close(descriptor)


async def _resolved(mirror: Mirror, wanted: Wanted) -> str | None:
    """The revision to check out; a branch may be a tag, as it may for `git clone`."""
    if wanted.revision or not wanted.branch:
        return wanted.revision or "HEAD"
    for name in (f"refs/heads/{wanted.branch}", f"refs/tags/{wanted.branch}"):
        if await quiet_git(["rev-parse", "--quiet", "--verify", name], mirror.path) is None:
            return name
    return None
