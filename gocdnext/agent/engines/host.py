"""The host engine, named `shell` to users: tasks are `sh` processes on this machine (protocol-agent 3.7)."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from gocdnext.agent import environment
from gocdnext.agent.engines import EngineError
from gocdnext.agent.joblog import STDERR, STDOUT, JobLog
from gocdnext.agent.process import run_process
from gocdnext.proto.agent_pb2 import JobAssignment

DOCKER_SOCKET = "/var/run/docker.sock"


class HostEngine:
    """Own process group per task, a clean environment, stdin from /dev/null, SIGKILL to the group on cancel."""

    name = "shell"

    def refusal(self, assignment: JobAssignment) -> str | None:
        """Services need containers; `docker: true` needs a daemon on this machine."""
        if assignment.services:
            names = ", ".join(service.name for service in assignment.services)
            return (
                f"services: the shell engine cannot start services ({names}); "
                "run this job on an agent with a container engine"
            )
        if assignment.docker and not os.path.exists(DOCKER_SOCKET):
            return f"docker: the job asks for docker, but there is no {DOCKER_SOCKET} on this agent"
        return None

    async def run_script(self, script: str, *, cwd: str, env: Mapping[str, str], log: JobLog) -> int:
        """See Engine. No shell option is added: `set -e` comes with the script."""
        _check(script, env)
        try:
            code = await run_process(
                ["sh", "-c", "--", script],
                cwd=cwd,
                env={**environment.for_jobs(), **env},
                stdout=log.sink(STDOUT),
                stderr=log.sink(STDERR),
            )
        except OSError as error:
            raise EngineError(_explain(error)) from error
        return code if code >= 0 else -1


def _check(script: str, env: Mapping[str, str]) -> None:
    if "\0" in script:
        raise EngineError("the script holds a NUL byte")
    for name, value in env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise EngineError(f"the variable {name!r} cannot be set: an empty name, '=' in it, or a NUL byte")


def _explain(error: OSError) -> str:
    if error.errno == errno.E2BIG:
        return (
            "the script or a variable is too large for this system (128 KiB is the usual limit); "
            "put the script into a file of the repository"
        )
    return f"cannot start sh: {error.strerror or error}"
