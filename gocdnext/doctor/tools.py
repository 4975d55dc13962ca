"""Programs that jobs need: git, a container engine, bubblewrap. Only the agents' side needs the last two."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from gocdnext.agent.config import DOCKER_SOCKETS
from gocdnext.agent.engines.docker_api import DockerApi
from gocdnext.agent.engines.sandbox import SandboxEngine
from gocdnext.doctor.findings import Finding, fail, ok, skipped, warn
from gocdnext.doctor.ground import Ground

OLDEST_GIT = (2, 20)
TOOL_TIMEOUT = 8
_NAMESPACES = (
    Path("/proc/sys/kernel/unprivileged_userns_clone"),  # Debian's
    Path("/proc/sys/user/max_user_namespaces"),
)


def git() -> Finding:
    """The git CLI, which reads the heads of repositories and makes the checkouts of jobs."""
    advice = "Install git 2.20 or newer; pipelines with a git material need it."
    try:
        done = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=TOOL_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return fail("git", f"does not run ({error})", advice)
    words = done.stdout.split()
    numbers = tuple(int(part) for part in words[2].split(".")[:2] if part.isdigit()) if len(words) > 2 else ()
    return ok("git", done.stdout.strip()) if numbers >= OLDEST_GIT else fail("git", done.stdout.strip(), advice)


async def containers(ground: Ground) -> Finding:
    """The engine that an agent here would find, and whether this user may use it."""
    name, said = "container engine", ground.environ.get("GOCDNEXT_DOCKER_SOCKET", "").strip()
    sockets = (said,) if said else DOCKER_SOCKETS
    closed = ""
    for path in filter(os.path.exists, sockets):
        if not os.access(path, os.R_OK | os.W_OK):
            closed = closed or path
            continue
        api = DockerApi(path)
        if await api.ping():
            version = await api.call("GET", "/version")
            which = version.get("Version", "?") if isinstance(version, dict) else "?"
            return ok(name, f"answers at {path} (version {which})")
        advice = "Start it: systemctl start docker, or systemctl start podman.socket"
        return warn(name, f"there is a socket {path}, and nobody answers", advice)
    if closed:
        advice = "Put the agent's user into the socket's group: usermod -aG docker gocdnext-agent"
        return warn(name, f"this user may not use {closed}", advice)
    if said or ground.environ.get("GOCDNEXT_AGENT_ENGINE", "").strip() == "docker":
        advice = "Install docker or podman, or correct GOCDNEXT_DOCKER_SOCKET; the agent does not start without it."
        return fail(name, f"none at {' or '.join(sockets)}", advice)
    return skipped(name, "none here: jobs with an image need an agent that has one")


async def sandbox(ground: Ground) -> Finding:
    """bubblewrap, tried with the very walls that tasks get, and user namespaces, which it needs where it is not root."""
    wanted = ground.environ.get("GOCDNEXT_AGENT_ENGINE", "").strip() == "sandbox"
    if shutil.which("bwrap") is None and not wanted:
        return skipped("sandbox", "no bubblewrap here: jobs without a container see the whole machine")
    for path in _NAMESPACES:
        if os.geteuid() != 0 and path.is_file() and path.read_text(encoding="ascii").strip() == "0":
            advice = f"Jobs in sandboxes need them: sysctl {'.'.join(path.parts[3:])}=1 (or a number of them)"
            return warn("sandbox", f"user namespaces are switched off ({path} is 0)", advice)
    trouble = await SandboxEngine("/").trouble()
    if trouble is None:
        return ok("sandbox", "bubblewrap makes sandboxes for jobs")
    return warn("sandbox", "jobs cannot be walled in here", trouble)
