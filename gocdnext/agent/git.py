"""Runs the git command line for the agent itself: what it may do, and what is kept of what it says (anchors E 11)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from gocdnext.agent import environment
from gocdnext.agent.joblog import STDERR, STDOUT, JobLog
from gocdnext.agent.process import Sink, run_process

TAIL = 4096
"""Bytes of git's error output that are kept for the error and for the decision about a second try."""

# Nothing that a repository says makes git run a program, or read another repository of this machine.
_SAFE = ("protocol.ext.allow=never", "protocol.file.allow=user", "advice.detachedHead=false")
# Where the configuration of the machine asks for a git-lfs that is not there, files in it would fail every checkout.
_NO_LFS = ("filter.lfs.process=", "filter.lfs.smudge=", "filter.lfs.required=false")
_USERINFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/@\s]*@")


def redact(text: str) -> str:
    """`scheme://user:password@` becomes `scheme://***@`."""
    return _USERINFO.sub(r"\1***@", text)


async def git(args: Sequence[str], cwd: str, log: JobLog) -> str | None:
    """Runs git with its output in the log. Returns None, or the end of its error output."""
    return await _run(args, cwd, log.sink(STDOUT), Tail(log.sink(STDERR)), subprocess.DEVNULL)


async def quiet_git(
    args: Sequence[str], cwd: str, output: Sink | None = None, stdin: int = subprocess.DEVNULL
) -> str | None:
    """The same without the log: for what the agent does on its own account."""
    return await _run(args, cwd, output or Tail(), Tail(), stdin)


async def _run(args: Sequence[str], cwd: str, stdout: Sink, errors: Tail, stdin: int) -> str | None:
    settings = _SAFE if shutil.which("git-lfs") else (*_SAFE, *_NO_LFS)
    argv = ["git", *(word for setting in settings for word in ("-c", setting)), *args]
    try:
        code = await run_process(argv, cwd=cwd, env=environment.for_git(), stdout=stdout, stderr=errors, stdin=stdin)
    except OSError as error:
        return f"git cannot be run on this agent: {error.strerror or error}"
    return None if code == 0 else errors.text() or f"git ended with {code}"


class Tail:
    """Passes output on, if there is whom to, and keeps the last `limit` bytes of it."""

    def __init__(self, sink: Sink | None = None, limit: int = TAIL) -> None:
        self._sink = sink
        self._limit = limit
        self.kept = b""

    async def feed(self, chunk: bytes) -> None:
        self.kept = (self.kept + chunk)[-self._limit :]
        if self._sink is not None:
            await self._sink.feed(chunk)

    async def finish(self) -> None:
        if self._sink is not None:
            await self._sink.finish()

    def text(self) -> str:
        """One line: git's complaints, joined."""
        lines = self.kept.decode("utf-8", "replace").replace("\0", "").splitlines()
        return "; ".join(line.strip() for line in lines if line.strip())
