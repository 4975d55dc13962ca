"""The agent's settings, read from GOCDNEXT_* variables (protocol-agent 3.1).

TABLE is what the documentation is made from. Nothing here reads the environment by itself.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from gocdnext.agent.workspace import Workspace
from gocdnext.durations import go_duration
from gocdnext.pipeline.quantities import QuantityError, size

GIB = 1024**3
MAX_TAGS = 100
MAX_CAPACITY = 1000


class ConfigError(Exception):
    """A setting is missing or wrong; the text names the variable and says what to write."""


@dataclass(frozen=True)
class Variable:
    """One row of the documentation: type is `host:port`, `text`, `list`, `int`, `path`, `bool`, `size` or `duration`."""

    name: str
    type: str
    default: str
    meaning: str


TABLE: tuple[Variable, ...] = (
    Variable(
        "GOCDNEXT_SERVER_ADDR",
        "host:port",
        "required",
        "Where the server listens for agents, e.g. ci.example.org:8154.",
    ),
    Variable("GOCDNEXT_AGENT_NAME", "text", "required", "Name of this agent; one name is one agent."),
    Variable(
        "GOCDNEXT_AGENT_TOKEN",
        "text",
        "required",
        "The agent's token, or the server's registration token for a new name.",
    ),
    Variable("GOCDNEXT_AGENT_TAGS", "list", "", "Comma list of tags; a job's required tags must all be among them."),
    Variable("GOCDNEXT_AGENT_CAPACITY", "int", "1", f"Jobs at the same time, 1 to {MAX_CAPACITY}."),
    Variable(
        "GOCDNEXT_AGENT_ENGINE",
        "text",
        "shell",
        "What runs the tasks: shell (processes on this machine), sandbox (processes that see no more of it than they "
        "need, by bubblewrap), docker (containers of Docker or podman), auto (containers for jobs with an image, a "
        "plugin or services when an engine answers; else the sandbox if bubblewrap works here; else processes).",
    ),
    Variable(
        "GOCDNEXT_SANDBOX_NETWORK",
        "bool",
        "true",
        "false: tasks in a sandbox have no network. The agent's own checkouts, caches and artifacts are not affected.",
    ),
    Variable(
        "GOCDNEXT_SANDBOX_READ_ONLY_PATHS",
        "list",
        "",
        "Comma list of more paths that tasks in a sandbox can read, e.g. of tools: /srv/toolchain.",
    ),
    Variable(
        "GOCDNEXT_WORKSPACE_ROOT",
        "path",
        "<tmp>/gocdnext-workspace",
        "Directory under which each job gets its own directory.",
    ),
    Variable(
        "GOCDNEXT_WORKSPACE_MIN_FREE",
        "size",
        "1Gi",
        "What must be free there when a job begins. With less, leftovers and mirrors are removed, then jobs refused.",
    ),
    Variable(
        "GOCDNEXT_MIRROR_LIMIT",
        "size",
        "20Gi",
        "How much of it the mirrors of repositories may take, with which a checkout fetches only what is new; 0: none.",
    ),
    Variable(
        "GOCDNEXT_DRAIN_BUDGET",
        "duration",
        "5m",
        "How long a stopping agent lets running jobs go on; 0 or less: not at all.",
    ),
    Variable(
        "GOCDNEXT_DRAIN_FLUSH_TIMEOUT",
        "duration",
        "45s",
        "How long a stopping agent waits for the server to store what it sent.",
    ),
    Variable(
        "GOCDNEXT_METRICS_ADDR",
        "host:port",
        "",
        "Where /healthz and /metrics (Prometheus) are served, e.g. :9464, which is 127.0.0.1:9464; empty: nowhere.",
    ),
    Variable(
        "GOCDNEXT_DOCKER_SOCKET",
        "path",
        "/var/run/docker.sock, else /run/podman/podman.sock",
        "Socket of the container engine: the first that answers is used; `docker: true` gives it to the job.",
    ),
    Variable(
        "GOCDNEXT_DOCKER_DEFAULT_IMAGE", "text", "", "Image for jobs without one, on the docker and auto engines."
    ),
    Variable(
        "GOCDNEXT_DOCKER_PULL_POLICY",
        "text",
        "missing",
        "When images are pulled: missing (when they are not here), always, or never.",
    ),
    Variable(
        "GOCDNEXT_DOCKER_NETWORK",
        "text",
        "",
        "Network of the containers of jobs without services: none, or the name of one; empty: the engine's own.",
    ),
    Variable(
        "GOCDNEXT_DOCKER_STRICT",
        "bool",
        "false",
        "true: a job without image (and no default image) fails instead of running as processes on this machine.",
    ),
    Variable(
        "GOCDNEXT_DOCKER_EXTRA_ARGS",
        "text",
        "",
        "Must be empty: this agent speaks to the engine's API and has no command line to add arguments to.",
    ),
)

DOCKER_SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
PULL_POLICIES = ("missing", "always", "never")


@dataclass(frozen=True)
class AgentSettings:
    """Durations are seconds. `token` is kept out of the repr, so that it cannot get into a log."""

    host: str
    port: int
    name: str
    token: str = field(repr=False)
    tags: tuple[str, ...] = ()
    capacity: int = 1
    engine: str = "shell"
    workspace_root: str = ""
    drain_budget: float = 300.0
    drain_flush_timeout: float = 45.0
    docker_sockets: tuple[str, ...] = DOCKER_SOCKETS
    docker_default_image: str = ""
    docker_pull_policy: str = "missing"
    docker_strict: bool = False
    docker_network: str = ""
    metrics_addr: tuple[str, int] | None = None
    once: bool = False
    """End after one job; from the command line, not a variable."""
    workspace_min_free: int = GIB
    mirror_limit: int = 20 * GIB
    sandbox_network: bool = True
    sandbox_read_only_paths: tuple[str, ...] = ()

    @property
    def workspace(self) -> Workspace:
        """Where jobs get their directories."""
        return Workspace(self.workspace_root, self.workspace_min_free, self.mirror_limit)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> AgentSettings:
        """Reads the variables of TABLE. ConfigError for the first one that is missing or wrong."""
        host, port = _address(_required(environ, "GOCDNEXT_SERVER_ADDR"))
        return cls(
            host=host,
            port=port,
            name=_required(environ, "GOCDNEXT_AGENT_NAME"),
            token=_required(environ, "GOCDNEXT_AGENT_TOKEN"),
            tags=_tags(environ.get("GOCDNEXT_AGENT_TAGS", "")),
            capacity=_capacity(environ.get("GOCDNEXT_AGENT_CAPACITY", "").strip() or "1"),
            engine=environ.get("GOCDNEXT_AGENT_ENGINE", "").strip() or "shell",
            workspace_root=os.path.abspath(
                environ.get("GOCDNEXT_WORKSPACE_ROOT", "").strip()
                or os.path.join(tempfile.gettempdir(), "gocdnext-workspace")
            ),
            metrics_addr=_metrics_address(environ),
            workspace_min_free=_size(environ, "GOCDNEXT_WORKSPACE_MIN_FREE", GIB),
            mirror_limit=_size(environ, "GOCDNEXT_MIRROR_LIMIT", 20 * GIB),
            drain_budget=_duration(environ, "GOCDNEXT_DRAIN_BUDGET", 300.0),
            drain_flush_timeout=_flush_timeout(environ),
            sandbox_network=_bool(environ, "GOCDNEXT_SANDBOX_NETWORK", default=True),
            sandbox_read_only_paths=_paths(environ, "GOCDNEXT_SANDBOX_READ_ONLY_PATHS"),
            **container_settings(environ),
        )


class ContainerSettings(TypedDict):
    """The settings of containers, by their names in AgentSettings."""

    docker_sockets: tuple[str, ...]
    docker_default_image: str
    docker_pull_policy: str
    docker_strict: bool
    docker_network: str


def container_settings(environ: Mapping[str, str]) -> ContainerSettings:
    """The GOCDNEXT_DOCKER_* variables, for the agent and for `run-local`. ConfigError for one that is wrong."""
    if environ.get("GOCDNEXT_DOCKER_EXTRA_ARGS", "").strip():
        raise ConfigError(
            "GOCDNEXT_DOCKER_EXTRA_ARGS cannot be obeyed: this agent has no docker command line, it speaks to the API; "
            "unset it and set defaults in the engine (daemon.json, containers.conf)"
        )
    socket = environ.get("GOCDNEXT_DOCKER_SOCKET", "").strip().removeprefix("unix://")
    if socket and not socket.startswith("/"):
        raise ConfigError(f"GOCDNEXT_DOCKER_SOCKET is {socket!r}; write the path of a unix socket")
    policy = environ.get("GOCDNEXT_DOCKER_PULL_POLICY", "").strip() or "missing"
    if policy not in PULL_POLICIES:
        raise ConfigError(f"GOCDNEXT_DOCKER_PULL_POLICY is {policy!r}; write {', '.join(PULL_POLICIES)} or nothing")
    return {
        "docker_sockets": (socket,) if socket else DOCKER_SOCKETS,
        "docker_default_image": environ.get("GOCDNEXT_DOCKER_DEFAULT_IMAGE", "").strip(),
        "docker_pull_policy": policy,
        "docker_network": _network(environ),
        "docker_strict": _bool(environ, "GOCDNEXT_DOCKER_STRICT"),
    }


def _network(environ: Mapping[str, str]) -> str:
    name = environ.get("GOCDNEXT_DOCKER_NETWORK", "").strip()
    if name and (name in {"host", "private"} or not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", name)):
        raise ConfigError(f"GOCDNEXT_DOCKER_NETWORK is {name!r}; write none, the name of a network, or nothing")
    return name


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        meaning = next(row.meaning for row in TABLE if row.name == name)
        raise ConfigError(f"{name} is not set. {meaning}")
    return value


def _metrics_address(environ: Mapping[str, str]) -> tuple[str, int] | None:
    text = environ.get("GOCDNEXT_METRICS_ADDR", "").strip()
    return _address(text, "GOCDNEXT_METRICS_ADDR", "127.0.0.1:9464") if text else None


def _address(text: str, name: str = "GOCDNEXT_SERVER_ADDR", example: str = "ci.example.org:8154") -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host:
        raise ConfigError(f"{name} is {text!r}; write host:port, e.g. {example}")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def _tags(text: str) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(tag.strip() for tag in text.split(",") if tag.strip()))
    if len(tags) > MAX_TAGS:
        raise ConfigError(f"GOCDNEXT_AGENT_TAGS names {len(tags)} tags; {MAX_TAGS} are the limit")
    return tags


def _capacity(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_CAPACITY:
        raise ConfigError(f"GOCDNEXT_AGENT_CAPACITY is {text!r}; write a whole number from 1 to {MAX_CAPACITY}")
    return int(text)


def _duration(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default
    seconds = go_duration(text)
    if seconds is None:
        raise ConfigError(f"{name}: {text!r} is not a duration; write for example 30s, 5m or 1h30m")
    return float(seconds)


def _size(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    try:
        return default if not text else 0 if text == "0" else size(text)
    except QuantityError as error:
        raise ConfigError(f"{name}: {error}") from None


def _paths(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    paths = tuple(path.strip() for path in environ.get(name, "").split(",") if path.strip())
    for path in paths:
        if not os.path.isabs(path) or os.path.normpath(path) == "/" or "\0" in path:
            raise ConfigError(f"{name}: {path!r} is not an absolute path below /; write for example /srv/toolchain")
    return tuple(map(os.path.normpath, paths))


def _bool(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    text = environ.get(name, "").strip().lower() or ("true" if default else "false")
    if text not in {"true", "false", "1", "0"}:
        raise ConfigError(f"{name} is {text!r}; write true or false")
    return text in {"true", "1"}


def _flush_timeout(environ: Mapping[str, str]) -> float:
    seconds = _duration(environ, "GOCDNEXT_DRAIN_FLUSH_TIMEOUT", 45.0)
    if seconds <= 0:
        raise ConfigError("GOCDNEXT_DRAIN_FLUSH_TIMEOUT must be more than 0, e.g. 45s")
    return seconds
