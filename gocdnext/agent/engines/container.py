"""The container engine, named `docker` to users: tasks and services are containers of docker or podman
(protocol-agent 3.7, 3.8). Imported only where a daemon answers, because its HTTP client costs memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import structlog
import trio

from gocdnext.agent.config import AgentSettings
from gocdnext.agent.engines import EngineError, TaskLog
from gocdnext.agent.engines.docker_api import STDERR_FRAME, Demultiplexer, DockerApi, DockerError
from gocdnext.agent.engines.docker_images import have
from gocdnext.agent.engines.docker_services import CLEAN_UP, Scope, clear, run_services
from gocdnext.agent.engines.host import check
from gocdnext.agent.joblog import STDERR, STDOUT
from gocdnext.pipeline.quantities import QuantityError, cores, size
from gocdnext.pipeline.substitution import plugin_env
from gocdnext.proto.agent_pb2 import JobAssignment, PluginSpec, ResourceRequirements

WORKSPACE = "/workspace"
SOCKET_INSIDE = "/var/run/docker.sock"
OWNER, RUN, JOB = "gocdnext.agent", "gocdnext.run", "gocdnext.job"
"""Labels of everything that is made here."""
OPEN_FILES = 16384
PROCESSES = 32768
"""At most: podman lowers its own limit to this, and may not be able to raise it again."""
KILLED = 137
"""128 and SIGKILL."""
_HEX = re.compile(r"[0-9a-f]{12}")
# The job's files belong to another user than the one in the container, which git distrusts.
_TRUST = "git config --global --add safe.directory '*' >/dev/null 2>&1 || :; "

_log = structlog.get_logger("gocdnext.agent")


class ContainerEngine:
    """On one daemon, which has answered. `owner` marks what is ours: the agent's name."""

    name = "docker"

    def __init__(
        self,
        api: DockerApi,
        owner: str,
        *,
        default_image: str = "",
        pull_policy: str = "missing",
        network: str = "",
        rootless: bool = False,
        user: tuple[int, int] | None = None,
    ) -> None:
        self._api = api
        self._user = user or (os.geteuid(), os.getegid())
        self._owner = owner
        self._default_image = default_image
        self._pull_policy = pull_policy
        self._network = network
        self._rootless = rootless

    async def start(self) -> None:
        """Removes containers and networks of an agent of this name that was killed."""
        await self.remove_owned(lambda owner: owner == self._owner)

    async def remove_owned(self, belongs: Callable[[str], bool]) -> None:
        """Removes what carries an owner for which `belongs` holds."""
        try:
            found = {kind: await self._api.labelled(kind, OWNER) for kind in ("containers", "networks")}
            containers = [item["Id"] for item in found["containers"] if belongs(item["Labels"][OWNER])]
            networks = [item["Name"] for item in found["networks"] if belongs(item["Labels"][OWNER])]
            if containers or networks:
                _log.warning("removing leftovers", containers=len(containers), networks=len(networks))
            await clear(self._api, containers, networks)
        except DockerError as error:
            _log.error("leftovers of an earlier run cannot be removed", why=str(error))

    async def refusal(self, assignment: JobAssignment) -> str | None:
        """See Engine: a script needs an image."""
        if not self.image(assignment) and any(task.WhichOneof("kind") == "script" for task in assignment.tasks):
            return "image: the job has no `image`, and this agent has no default one; give the job an image"
        return None

    @contextlib.asynccontextmanager
    async def services(self, assignment: JobAssignment, log: TaskLog) -> AsyncIterator[str]:
        """See Engine."""
        if not assignment.services:
            yield ""
            return
        async with run_services(self._api, assignment.services, self.scope(assignment), log) as network:
            yield network

    def tasks(self, assignment: JobAssignment, cwd: str, log: TaskLog, network: str) -> ContainerTasks:
        """See Engine."""
        place = Place(
            image=self.image(assignment),
            cwd=cwd,
            network=network or self._network,
            docker=assignment.docker,
            limits=_limits(assignment.resources),
            user=self._user,
        )
        return ContainerTasks(self._api, self.scope(assignment), place, log)

    def image(self, assignment: JobAssignment) -> str:
        """The image of the job's scripts; empty when there is none."""
        return assignment.image or self._default_image

    def scope(self, assignment: JobAssignment) -> Scope:
        """Names and labels of a job's containers."""
        return Scope(
            prefix=prefix(assignment.job_id),
            labels={OWNER: self._owner, RUN: assignment.run_id, JOB: assignment.job_id},
            # A daemon asks for limits of its own when none are given, and fails where it may not raise them.
            host_config={"Init": True, "Ulimits": _ulimits()},
            pull_policy=self._pull_policy,
            rootless=self._rootless,
        )


@dataclass(frozen=True)
class Place:
    """Where the tasks of a job run. `user` (uid, gid) is whom the files in `cwd` belong to."""

    image: str
    cwd: str
    network: str
    docker: bool
    limits: Mapping[str, int]
    user: tuple[int, int]


class ContainerTasks:
    """See Tasks: one container for each, removed when it has ended."""

    def __init__(self, api: DockerApi, scope: Scope, place: Place, log: TaskLog) -> None:
        self._api = api
        self._scope = scope
        self._place = place
        self._log = log
        self._count = 0
        self._last_image = ""

    def seen(self, path: str) -> str:
        return os.path.join(WORKSPACE, os.path.relpath(path, self._place.cwd))

    async def run_script(self, script: str, env: Mapping[str, str]) -> int:
        """See Tasks. `set -e` comes with the script."""
        command = {"Entrypoint": ["sh"], "Cmd": ["-c", "--", _TRUST + script]}
        check(_TRUST + script, env)
        return await self._run(self._place.image, command, env)

    async def run_plugin(self, plugin: PluginSpec, env: Mapping[str, str]) -> int:
        """See Tasks. The image's own entry point does the work."""
        settings = {plugin_env(name): value for name, value in plugin.settings.items()}
        check("", {**settings, **env})
        return await self._run(plugin.image, {}, {**settings, **env})

    async def close(self) -> None:
        """See Tasks: an agent that is not root cannot remove what root in a container has made."""
        uid, gid = self._place.user
        if not self._last_image or uid == 0 or self._scope.rootless:
            return
        name = f"{self._scope.prefix}_owner"
        config = {
            **self._config(self._last_image, {"Entrypoint": ["chown"], "User": "0:0"}, {}),
            "Cmd": ["-R", "-h", f"{uid}:{gid}", WORKSPACE],
        }
        # Shielded, since it must happen after a cancel too; bounded.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP):
            if not await trio.to_thread.run_sync(_has_foreign, self._place.cwd, uid, abandon_on_cancel=True):
                return
            try:
                await self._api.create(name, config)
                await self._api.start(name)
                code = await self._api.exit_code(name)
                if code != 0:
                    _log.warning(
                        "files of a job may stay: they belong to another user", path=self._place.cwd, code=code
                    )
            except DockerError as error:
                _log.warning("files of a job may stay: they belong to another user", why=str(error))
            await self._clean_up(name)

    async def _run(self, image: str, command: Mapping[str, object], env: Mapping[str, str]) -> int:
        name = f"{self._scope.prefix}_task_{self._count}"
        self._count += 1
        try:
            await have(self._api, image, self._scope.pull_policy, self._log)
            self._last_image = image
            return await self._run_container(name, self._config(image, command, env))
        except DockerError as error:
            raise EngineError(str(error)) from error

    async def _run_container(self, name: str, config: Mapping[str, object]) -> int:
        try:
            # Shielded, one short call: cut off, the daemon might make it after we have cleaned up.
            with trio.CancelScope(shield=True):
                await self._api.create(name, config)
            async with self._api.attach(name) as response:
                await self._api.start(name)
                sinks = self._log.sink(STDOUT), self._log.sink(STDERR)
                demultiplexer = Demultiplexer()
                async for chunk in response.aiter_raw():
                    for stream, data in demultiplexer.feed(chunk):
                        await sinks[stream == STDERR_FRAME].feed(data)
                for sink in sinks:
                    await sink.finish()
            code = await self._api.exit_code(name)
            if code == KILLED:
                await self._explain_kill(name)
            return code if 0 <= code <= 255 else -1
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP):
                await self._clean_up(name)

    async def _clean_up(self, name: str) -> None:
        try:
            await self._api.remove(name)
        except DockerError as error:
            _log.warning("a container was not removed; the next start of this agent does it", why=str(error), name=name)

    async def _explain_kill(self, name: str) -> None:
        """podman does not say that memory was the reason, docker does."""
        state = (await self._api.inspect(name))["State"]
        sure = bool(state.get("OOMKilled"))
        why = "it ran out of memory" if sure else "probably it ran out of memory, or something sent it SIGKILL"
        await self._log.line(
            f"exit code {KILLED}: the container was killed; {why}. Raise the job's memory limit, or let it use less.",
            STDERR,
        )

    def _config(self, image: str, command: Mapping[str, object], env: Mapping[str, str]) -> dict[str, object]:
        mounts = [{"Type": "bind", "Source": self._place.cwd, "Target": WORKSPACE}]
        # Its output is read as it comes; kept by the daemon it would only fill the disk.
        host: dict[str, object] = {**self._scope.host_config, **self._place.limits, "LogConfig": {"Type": "none"}}
        variables = dict(env)
        if self._place.docker:
            mounts.append({"Type": "bind", "Source": self._api.socket, "Target": SOCKET_INSIDE})
            host["ExtraHosts"] = ["host.docker.internal:host-gateway"]
            variables = {
                "DOCKER_HOST": f"unix://{SOCKET_INSIDE}",
                "TESTCONTAINERS_HOST_OVERRIDE": "host.docker.internal",
                "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE": self._api.socket,
                **variables,
            }
        if self._place.network:
            host["NetworkMode"] = self._place.network
        return {
            "Image": image,
            "Env": [f"{name}={value}" for name, value in variables.items()],
            "WorkingDir": WORKSPACE,
            "Labels": dict(self._scope.labels),
            "AttachStdout": True,
            "AttachStderr": True,
            "HostConfig": {**host, "Mounts": mounts},
            **command,
        }


def _has_foreign(path: str, uid: int) -> bool:
    """Whether something below a directory belongs to another user, or cannot be looked at."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                if found.st_uid != uid or (entry.is_dir(follow_symlinks=False) and _has_foreign(entry.path, uid)):
                    return True
    except OSError:
        return True
    return False


async def connect(socket: str, settings: AgentSettings) -> ContainerEngine | None:
    """The engine on the daemon behind a socket; None when no daemon answers there."""
    api = DockerApi(socket)
    if not await api.ping():
        return None
    try:
        options = (await api.call("GET", "/info")).get("SecurityOptions") or []
    except DockerError:
        return None
    rootless = any("rootless" in str(option) for option in options)
    return ContainerEngine(
        api,
        settings.name,
        default_image=settings.docker_default_image,
        pull_policy=settings.docker_pull_policy,
        network=settings.docker_network,
        rootless=rootless,
    )


def prefix(job_id: str) -> str:
    """The beginning of the names of a job's containers and network (protocol-agent 3.8)."""
    digits = job_id.lower().replace("-", "")[:12]
    if not _HEX.fullmatch(digits):
        digits = hashlib.sha256(job_id.encode()).hexdigest()[:12]
    return f"gocdnext-{digits}"


def _ulimits() -> list[dict[str, object]]:
    """Limits within those of this process, which a daemon on the same machine can set as well."""
    found: list[dict[str, object]] = []
    for name, kind, most in (
        ("nofile", resource.RLIMIT_NOFILE, OPEN_FILES),
        ("nproc", resource.RLIMIT_NPROC, PROCESSES),
    ):
        hard = resource.getrlimit(kind)[1]
        value = most if hard == resource.RLIM_INFINITY else min(hard, most)
        found.append({"Name": name, "Soft": value, "Hard": value})
    return found


def _limits(resources: ResourceRequirements) -> dict[str, int]:
    """The job's limits as the API has them."""
    limits: dict[str, int] = {}
    try:
        if resources.memory_limit:
            limits["Memory"] = limits["MemorySwap"] = size(resources.memory_limit)
        if resources.cpu_limit:
            limits["NanoCpus"] = round(cores(resources.cpu_limit) * 1e9)
    except QuantityError as error:
        raise EngineError(f"resources: {error}") from error
    return limits
