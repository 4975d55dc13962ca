"""What an engine is: the thing that runs the tasks of a job (protocol-agent 3.7). One module per engine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gocdnext.agent.config import AgentSettings, ConfigError
from gocdnext.agent.process import Sink
from gocdnext.proto.agent_pb2 import JobAssignment, PluginSpec


class EngineError(Exception):
    """The engine could not do what the job asks for; the text is shown to the user. The task has no exit code."""


class TaskLog(Protocol):
    """Where an engine writes: what tasks print, and lines of its own."""

    async def line(self, text: str, stream: str = "stdout") -> None: ...

    def sink(self, stream: str) -> Sink: ...


class Tasks(Protocol):
    """The tasks of one job, in one directory, on one engine."""

    def seen(self, path: str) -> str:
        """The name under which tasks see a path of this machine that lies below the job's directory."""

    async def run_script(self, script: str, env: Mapping[str, str]) -> int:
        """Runs one script task to its end and returns its exit code, -1 when a signal killed it.

        Raises EngineError when it cannot be run. Cancelled: whatever was started is killed before this returns.
        """

    async def run_plugin(self, plugin: PluginSpec, env: Mapping[str, str]) -> int:
        """The same for a plugin task. `env` wins over the settings (PLUGIN_*)."""

    async def close(self) -> None:
        """After the last task, also when cancelled: what tasks made in the directory can be read and removed by us."""


class Engine(Protocol):
    """`name` is what Register tells the server."""

    name: str

    async def start(self) -> None:
        """Once, before the first job: removes what a killed agent left behind. ConfigError when it cannot work."""

    async def refusal(self, assignment: JobAssignment) -> str | None:
        """Why this engine cannot run the job at all, in the shape `<phase>: <detail>`; None when it can."""

    def services(self, assignment: JobAssignment, log: TaskLog) -> AbstractAsyncContextManager[str]:
        """Runs the job's services for as long as the context is open; ready when it is entered, gone when left.

        Gives the name of their network, which is empty without services. Raises EngineError.
        """

    def tasks(self, assignment: JobAssignment, cwd: str, log: TaskLog, network: str) -> Tasks:
        """What runs the tasks of this job in the directory `cwd`, in a network of `services`. Raises EngineError."""


def open_engine(settings: AgentSettings) -> Engine:
    """The engine that the settings name. ConfigError when there is none of that name."""
    from gocdnext.agent.engines.host import HostEngine

    if settings.engine in {"", "shell"}:
        return HostEngine(docker_sockets=settings.docker_sockets)
    if settings.engine in {"docker", "auto"}:
        from gocdnext.agent.engines.chosen import ChosenEngine

        return ChosenEngine(settings)
    if settings.engine == "sandbox":
        from gocdnext.agent.engines.sandbox import open_sandbox

        return open_sandbox(settings)
    raise ConfigError(f"GOCDNEXT_AGENT_ENGINE is {settings.engine!r}; write shell, sandbox, docker or auto")
