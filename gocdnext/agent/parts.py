"""What belongs to a checkout beside the repository itself: submodules, and files in Git LFS, when it has them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from gocdnext.agent import markers
from gocdnext.agent.git import git, quiet_git
from gocdnext.agent.joblog import STDERR, JobLog


async def complete(target: str, work_dir: str, config: Sequence[str], log: JobLog) -> str | None:
    """Brings both into a work tree. `config` lets git in, to the host of the repository only. Returns None, or what
    went wrong."""
    shown = target.removeprefix(work_dir).lstrip(os.sep) or "."
    trouble = await _submodules(target, shown, work_dir, config, log)
    return trouble or await _large_files(target, shown, work_dir, config, log)


async def _submodules(target: str, shown: str, work_dir: str, config: Sequence[str], log: JobLog) -> str | None:
    if not _has_submodules(target):
        return None
    words = ["submodule", "--quiet", "update", "--init", "--recursive"]
    await log.line(markers.command(["git", "-C", shown, *words]))
    trouble = await git([*config, "-C", target, *words], work_dir, log)
    return f"submodules: {trouble}" if trouble is not None else None


async def _large_files(target: str, shown: str, work_dir: str, config: Sequence[str], log: JobLog) -> str | None:
    where = [".gitattributes", "*/.gitattributes"]
    search = ["grep", "--quiet", "--fixed-strings", "-e", "filter=lfs", "--", *where]
    if await quiet_git(["-C", target, *search], work_dir) is not None:
        return None
    if shutil.which("git-lfs") is None:
        text = "this repository has files in Git LFS, and git-lfs is not on this agent: they stay pointers (install git-lfs)"
        await log.line(markers.note(text), STDERR)
        return None
    await log.line(markers.command(["git", "-C", shown, "lfs", "pull"]))
    # Only for this repository: so the job's own git knows what to do as well.
    trouble = await quiet_git(["-C", target, "lfs", "install", "--local"], work_dir)
    trouble = trouble or await git([*config, "-C", target, "lfs", "pull"], work_dir, log)
    return f"Git LFS: {trouble}" if trouble is not None else None


def _has_submodules(target: str) -> bool:
    return os.path.lexists(os.path.join(target, ".gitmodules"))
