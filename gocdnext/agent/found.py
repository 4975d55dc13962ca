"""Which files of a job's directory are meant by a path or a pattern, and opening one of them (protocol-agent 3.9-3.13).

What a job left there is not trusted: no link is followed out of the directory, and only regular files are opened. It
changes nothing and knows neither archives nor reports.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wcmatch import glob
from wcmatch._wcparse import PatternLimitException  # there is no public name for it

from gocdnext.agent.failures import DeliveryError
from gocdnext.pipeline import globs

MAX_FOUND = 1_000_000
"""Files that one pattern may match."""

Check = Callable[[], None]
"""Called every now and then; raises when the work has become useless."""

_FLAGS = glob.GLOBSTAR | glob.BRACE | glob.DOTGLOB | glob.FORCEUNIX
_MAGIC = re.compile(r"[*?\[{\\]")


class FoundError(DeliveryError):
    """A path or pattern cannot be used, or a file cannot be opened; the text says which and why."""


@dataclass(frozen=True)
class Selection:
    """What one declared path means. `pattern`: its names are what a pattern matched, so links among them stay links."""

    names: Sequence[str]
    pattern: bool

    def path(self, root: str, name: str) -> str:
        """Where the content of a name is. A declared path that is a link is what it points to. FoundError, OSError."""
        return os.path.join(root, name) if self.pattern else resolve(root, name)


def never() -> None:
    """A Check for work that nobody ends early."""


def clean(path: str) -> str:
    """The path without `.` and doubled slashes; empty for the directory itself. FoundError when it leads out."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/"):
        raise FoundError(f"{path!r} is an absolute path; write it relative to the directory of the job")
    if ".." in parts or "\0" in path:
        raise FoundError(f"{path!r} leads out of the directory of the job")
    return "/".join(parts)


def resolve(root: str, relative: str) -> str:
    """The real absolute path of a clean path. FoundError when links lead out; FileNotFoundError when there is none."""
    real_root = os.path.realpath(root)
    real = os.path.realpath(os.path.join(real_root, relative), strict=True)
    if real != real_root and not real.startswith(real_root.rstrip("/") + "/"):
        raise FoundError(f"{relative!r} is a link that leads out of the directory of the job")
    return real


def select(root: str, path: str, check: Check = never) -> Selection:
    """What a declared path means: itself when there is such a thing, else what it matches as a pattern. FoundError."""
    name = clean(path)
    if os.path.exists(os.path.join(root, name)):
        return Selection([name], pattern=False)
    return Selection(find(root, path, check) if is_pattern(path) else [], pattern=True)


def is_pattern(path: str) -> bool:
    """Whether the path has a character that means something in a pattern."""
    return _MAGIC.search(path) is not None


def find(root: str, pattern: str, check: Check = never, *, limit: int = MAX_FOUND) -> list[str]:
    """The files that match, relative to the root, in the order of their bytes: all that is no directory.

    `*` and `?` stay within a segment and match leading dots, `**` stands for any number of directories, `{a,b}` and
    `[a-z]` work; no link to a directory is entered. FoundError for a pattern that is not one, or more than `limit`.
    """
    pattern = clean(pattern)
    problem = globs.flaw(pattern)
    if problem:
        raise FoundError(f"the pattern {pattern!r} {problem}")
    try:
        matches = glob.compile(pattern, flags=_FLAGS).match
    except PatternLimitException:
        raise FoundError(f"the pattern {pattern!r} stands for more than 1000 patterns") from None
    start, depth = _extent(pattern)
    try:
        top = resolve(root, start)
    except OSError:
        return []
    found: list[str] = []
    waiting = [(top, start, 0)]
    while waiting:
        check()
        path, name, level = waiting.pop()
        for entry, is_directory in _entries(path):
            here = f"{name}/{entry}" if name else entry
            if is_directory:
                if depth is None or level + 1 < depth:
                    waiting.append((os.path.join(path, entry), here, level + 1))
            elif matches(here):
                found.append(here)
                if len(found) > limit:
                    raise FoundError(f"the pattern {pattern!r} matches more than {limit:,} files; that is the limit")
    return sorted(found, key=os.fsencode)


def open_regular(root: str, relative: str) -> int:
    """A descriptor for reading a regular file, through links that stay inside. FoundError, FileNotFoundError, OSError.

    Nothing else is ever opened: that could wait for a writer (a fifo) or do something (a device).
    """
    real = resolve(root, relative)
    handle = os.open(real, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FoundError(f"{relative!r} is not a file")
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)


def _extent(pattern: str) -> tuple[str, int | None]:
    """Where a walk for the pattern begins, and how many levels it goes down; None for all."""
    segments = pattern.split("/")
    fixed = next((number for number, segment in enumerate(segments) if is_pattern(segment)), len(segments) - 1)
    deep = "**" in pattern or "{" in pattern  # braces may hold slashes
    return "/".join(segments[:fixed]), None if deep else len(segments) - fixed


def _entries(path: str) -> list[tuple[str, bool]]:
    """Names with whether each is a directory itself. Nothing for a directory that is gone or may not be read."""
    try:
        with os.scandir(path) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return []
