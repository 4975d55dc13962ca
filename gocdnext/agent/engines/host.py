"""The host engine, named `shell` to users: tasks are `sh` processes on this machine (protocol-agent 3.7).

The sandbox engine is built on it: it differs in what stands before `sh`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from gocdnext.agent import environment, plugins
from gocdnext.agent.config import DOCKER_SOCKETS
from gocdnext.agent.engines import EngineError, TaskLog
from gocdnext.agent.joblog import STDERR, STDOUT
from gocdnext.agent.process import run_process
from gocdnext.proto.agent_pb2 import JobAssignment, PluginSpec, ServiceSpec

TOO_LARGE = (
    "the script or a variable is too large for this system (128 KiB is the usual limit); "
    "put the script into a file of the repository"
)


MAX_ARGUMENT = 128 * 1024
"""Bytes of one argument or variable that Linux takes."""


class HostEngine:
    """Own process group per task, a clean environment, stdin from /dev/null, SIGKILL to the group on cancel."""

    name = "shell"

    def __init__(self, docker_sockets: Sequence[str] = DOCKER_SOCKETS) -> None:
        self._docker_sockets = docker_sockets

    async def start(self) -> None:
        """Nothing outlives a killed agent: the kernel kills its processes with it."""

    async def refusal(self, assignment: JobAssignment) -> str | None:
        """Services need containers; `docker: true` needs a daemon on this machine."""
        if assignment.services:
            return self._no_services(assignment.services)
        if assignment.docker and not any(map(os.path.exists, self._docker_sockets)):
            missing = " or ".join(self._docker_sockets)
            return f"docker: the job asks for docker, but there is no {missing} on this agent"
        return None

    @contextlib.asynccontextmanager
    async def services(self, assignment: JobAssignment, log: TaskLog) -> AsyncIterator[str]:
        """See Engine: there are none here."""
        if assignment.services:
            raise EngineError(self._no_services(assignment.services).removeprefix("services: "))
        yield ""

    def tasks(self, assignment: JobAssignment, cwd: str, log: TaskLog, network: str) -> HostTasks:
        """See Engine."""
        return HostTasks(cwd, log)

    def _no_services(self, specs: Iterable[ServiceSpec]) -> str:
        names = ", ".join(service.name for service in specs)
        return (
            f"services: the {self.name} engine cannot start services ({names}); "
            "run this job on an agent with a container engine"
        )


class HostTasks:
    """See Tasks."""

    engine = HostEngine.name

    def __init__(self, cwd: str, log: TaskLog) -> None:
        self._cwd = cwd
        self._log = log

    def seen(self, path: str) -> str:
        return path

    async def run_script(self, script: str, env: Mapping[str, str]) -> int:
        """See Tasks. No shell option is added: `set -e` comes with the script."""
        check(script, env)
        return await self._code(["sh", "-c", "--", script], env, ())

    async def run_plugin(self, plugin: PluginSpec, env: Mapping[str, str]) -> int:
        """See Tasks. Only our own plugins run here, as processes."""
        command = plugins.command(plugin, env, self.engine)
        check("", command.env)
        return await self._code(command.argv, command.env, command.needs)

    async def close(self) -> None:
        """Nothing to do: tasks run as this user."""

    async def _code(self, argv: Sequence[str], env: Mapping[str, str], needs: Sequence[str]) -> int:
        try:
            code = await self._run(argv, env, needs)
        except OSError as error:
            raise EngineError(_explain(error, argv[0])) from error
        return code if code >= 0 else -1

    async def _run(self, argv: Sequence[str], env: Mapping[str, str], needs: Sequence[str]) -> int:
        """Runs a command with the job's variables; its output goes to the log. Raises OSError.

        `needs` are the folders that it must be able to read; here it sees the whole disk.
        """
        return await run_process(
            argv,
            cwd=self._cwd,
            env={**environment.for_jobs(), **env},
            stdout=self._log.sink(STDOUT),
            stderr=self._log.sink(STDERR),
        )


def check(script: str, env: Mapping[str, str]) -> None:
    """EngineError for what no system can run."""
    if "\0" in script:
        raise EngineError("the script holds a NUL byte")
    for name, value in env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise EngineError(f"the variable {name!r} cannot be set: an empty name, '=' in it, or a NUL byte")
        if len(f"{name}={value}".encode(errors="replace")) >= MAX_ARGUMENT:
            raise EngineError(TOO_LARGE)
    if len(script.encode(errors="replace")) >= MAX_ARGUMENT:
        raise EngineError(TOO_LARGE)


def _explain(error: OSError, program: str) -> str:
    if error.errno == errno.E2BIG:
        return TOO_LARGE
    return f"cannot start {program}: {error.strerror or error}"
