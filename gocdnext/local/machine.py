"""What `run-local` asks of this machine: the engine, the state of the repository, and who else runs here."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from typing import Literal

import trio

from gocdnext.agent import environment
from gocdnext.agent.config import AgentSettings, container_settings
from gocdnext.agent.engines import Engine
from gocdnext.agent.engines.chosen import ChosenEngine
from gocdnext.agent.engines.host import HostEngine

EngineName = Literal["auto", "host", "container"]
GIT = 10.0
"""Seconds that git may take to answer."""
_OWNER = re.compile(r"local-(\d+)-(\d+)-(\d+)")


async def open_engine(name: EngineName, environ: Mapping[str, str]) -> Engine:
    """The engine, ready; what killed runs left on it is removed. Raises ConfigError when it cannot work."""
    containers = container_settings(environ)
    if name == "host":
        return HostEngine(docker_sockets=containers["docker_sockets"])
    if name == "container":
        containers["docker_strict"] = True
    kind = "docker" if name == "container" else "auto"
    settings = AgentSettings(host="", port=0, name=_owner(), token="", engine=kind, **containers)
    engine = ChosenEngine(settings, may_sandbox=False)  # the user's own directory, with the user's own tools
    await engine.start()
    container = await engine.container()
    if container is not None:
        await container.remove_owned(_is_dead)
    return engine


async def head(workspace: str) -> tuple[str, str]:
    """Commit and branch of the repository that the directory is in; empty when there is none."""
    return await _git(workspace, "rev-parse", "HEAD"), await _git(workspace, "symbolic-ref", "--short", "-q", "HEAD")


async def _git(workspace: str, *arguments: str) -> str:
    try:
        with trio.fail_after(GIT):
            done = await trio.run_process(
                ["git", "-C", workspace, *arguments],
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                check=False,
                env=environment.for_git(),
            )
    except (OSError, trio.TooSlowError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def _owner() -> str:
    """Names this process among all that ever share the engine: number space, number, and the moment it began."""
    pid = os.getpid()
    return f"local-{_number_space()}-{pid}-{_began(pid)}"


def _is_dead(owner: str) -> bool:
    """Whether the name is that of a run on this machine which has gone."""
    match = _OWNER.fullmatch(owner)
    return match is not None and int(match[1]) == _number_space() and _began(int(match[2])) != int(match[3])


def _number_space() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _began(pid: int) -> int:
    """When a process began, in the kernel's ticks; 0 when there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return 0
