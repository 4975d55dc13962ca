"""What an engine is: the thing that runs the tasks of a job (protocol-agent 3.7). One module per engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gocdnext.agent.config import AgentSettings, ConfigError
from gocdnext.agent.joblog import JobLog
from gocdnext.proto.agent_pb2 import JobAssignment


class EngineError(Exception):
    """The engine could not do what the job asks for; the text is shown to the user. The task has no exit code."""


class Engine(Protocol):
    """`name` is what Register tells the server."""

    name: str

    def refusal(self, assignment: JobAssignment) -> str | None:
        """Why this engine cannot run the job at all, in the shape `<phase>: <detail>`; None when it can."""

    async def run_script(self, script: str, *, cwd: str, env: Mapping[str, str], log: JobLog) -> int:
        """Runs one script task to its end and returns its exit code, -1 when a signal killed it.

        Raises EngineError when it cannot be run. Cancelled: whatever was started is killed before this returns.
        """


def open_engine(settings: AgentSettings) -> Engine:
    """The engine that the settings name. ConfigError when there is none of that name."""
    from gocdnext.agent.engines.host import HostEngine

    if settings.engine in {"", "shell"}:
        return HostEngine()
    raise ConfigError(f"GOCDNEXT_AGENT_ENGINE is {settings.engine!r}; this agent has the engine shell only")
