"""The engines named `docker` and `auto`: containers or processes, decided for each job (protocol-agent 3.1, 3.7).

`docker` needs a daemon; `auto` does without when none answers. Processes are those of the host engine, under `auto` in
a sandbox where one can be made. Nothing of the container engine is imported before the socket of a daemon is there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import structlog
import trio

from gocdnext.agent import markers
from gocdnext.agent.config import AgentSettings, ConfigError
from gocdnext.agent.engines import EngineError, TaskLog, Tasks
from gocdnext.agent.engines.host import HostEngine
from gocdnext.agent.engines.sandbox import open_sandbox
from gocdnext.agent.joblog import STDERR
from gocdnext.proto.agent_pb2 import JobAssignment

if TYPE_CHECKING:
    from gocdnext.agent.engines.container import ContainerEngine

_log = structlog.get_logger("gocdnext.agent")


class ChosenEngine:
    """Containers for jobs with an image (their own or the default one), a plugin or services; else processes.

    `may_sandbox` is whether `auto` puts those into a sandbox; decided once, at start.
    """

    def __init__(self, settings: AgentSettings, *, may_sandbox: bool = True) -> None:
        self.name = settings.engine
        self._settings = settings
        self._may_sandbox = may_sandbox and self.name == "auto"
        self._host = HostEngine(docker_sockets=settings.docker_sockets)
        self._container: ContainerEngine | None = None
        self._opening = trio.Lock()

    async def start(self) -> None:
        """See Engine. Without a daemon, `docker` cannot work."""
        if await self.container() is None and self.name == "docker":
            raise ConfigError(self._no_daemon())
        if self._may_sandbox:
            sandbox = open_sandbox(self._settings)
            trouble = await sandbox.trouble()
            if trouble is None:
                self._host = sandbox
            else:
                _log.info("no sandbox: jobs without a container run as processes of this machine", why=trouble)

    async def container(self) -> ContainerEngine | None:
        """The container engine; None as long as no daemon answers. Its leftovers are removed when it first does."""
        async with self._opening:
            settings = self._settings
            for socket in settings.docker_sockets:
                if self._container is None and _there(socket):
                    from gocdnext.agent.engines.container import connect

                    self._container = await connect(socket, settings)
                    if self._container is not None:
                        await self._container.start()
            return self._container

    async def refusal(self, assignment: JobAssignment) -> str | None:
        """See Engine."""
        if not self._wants_container(assignment):
            if self._settings.docker_strict:
                return "image: the job has no `image`, and this agent runs containers only; give the job an image"
            return await self._host.refusal(assignment)
        container = await self.container()
        if container is not None:
            return await container.refusal(assignment)
        if self.name == "docker" or self._settings.docker_strict:
            return f"docker: {self._no_daemon()}"
        return await self._host.refusal(assignment)

    @contextlib.asynccontextmanager
    async def services(self, assignment: JobAssignment, log: TaskLog) -> AsyncIterator[str]:
        """See Engine."""
        container = await self.container() if self._wants_container(assignment) else None
        if container is None and assignment.image:
            text = f"the image {assignment.image} is not used: no container engine answers, tasks run on this machine"
            await log.line(markers.note(text), STDERR)
        async with (container or self._host).services(assignment, log) as network:
            yield network

    def tasks(self, assignment: JobAssignment, cwd: str, log: TaskLog, network: str) -> Tasks:
        """See Engine."""
        if self._container is not None and (network or self._wants_container(assignment)):
            return self._container.tasks(assignment, cwd, log, network)
        if self.name == "docker" and self._wants_container(assignment):
            raise EngineError(self._no_daemon())
        return self._host.tasks(assignment, cwd, log, network)

    def _wants_container(self, assignment: JobAssignment) -> bool:
        return bool(
            assignment.image
            or self._settings.docker_default_image
            or assignment.services
            or any(task.WhichOneof("kind") == "plugin" for task in assignment.tasks)
        )

    def _no_daemon(self) -> str:
        sockets = " or ".join(self._settings.docker_sockets)
        return (
            f"no container engine answers at {sockets}; start docker or podman (systemctl start podman.socket), "
            "or set GOCDNEXT_DOCKER_SOCKET"
        )


def _there(path: str) -> bool:
    return os.path.exists(path)
