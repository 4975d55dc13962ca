"""Services of a job: a network, a container for each under its alias, and the wait until they can be used
(protocol-agent 3.8). The tasks of the job are not its business."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from gocdnext.agent import markers
from gocdnext.agent.engines import EngineError, TaskLog
from gocdnext.agent.engines.docker_api import DockerApi, DockerError
from gocdnext.agent.engines.docker_images import have
from gocdnext.agent.joblog import STDERR
from gocdnext.durations import format_duration
from gocdnext.proto.agent_pb2 import ServiceSpec

READY = 120.0
"""Seconds that a service may take to become ready."""
QUIET = 10.0
"""Seconds after which a service that accepts on some of its ports counts as ready: images expose ports that only some
settings of theirs open."""
LOOK, LONGEST_LOOK = 0.1, 1.0
"""Seconds between two looks, growing from the one to the other."""
CONNECT, CHECK = 2.0, 30.0
"""Seconds for one attempt to connect, and for one health check."""
LAST_LINES = 20
CLEAN_UP = 60.0
"""Seconds to remove everything, whatever happens."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Scope:
    """What belongs to one job: the beginning of all names, the labels, and the settings of every container."""

    prefix: str
    labels: Mapping[str, str]
    host_config: Mapping[str, object]
    pull_policy: str
    rootless: bool


@dataclass(frozen=True)
class _Service:
    name: str
    container: str
    ports: tuple[int, ...]
    health: tuple[str, ...]


@contextlib.asynccontextmanager
async def run_services(api: DockerApi, specs: Sequence[ServiceSpec], scope: Scope, log: TaskLog) -> AsyncIterator[str]:
    """Gives the name of the network when all are ready; removes everything at the end. Raises EngineError."""
    for spec in specs:
        if not _NAME.fullmatch(spec.name):
            raise EngineError(f"{spec.name!r} is not a name for a service: lower-case letters, digits and `-`")
    containers = [f"{scope.prefix}-{spec.name}" for spec in specs]
    try:
        try:
            await clear(api, containers, [scope.prefix])  # of an attempt whose agent was killed
            with trio.CancelScope(shield=True):  # one short call: cut off, it would leave a network nobody knows of
                await api.create_network(scope.prefix, scope.labels)
            services = [await _start(api, spec, scope, log) for spec in specs]
            async with trio.open_nursery() as nursery:
                for service in services:
                    nursery.start_soon(_until_ready, api, service, scope, log)
        except DockerError as error:
            raise EngineError(str(error)) from error
        except ExceptionGroup as group:
            failures, others = group.split((EngineError, DockerError))
            if failures is None or others is not None:
                raise
            raise EngineError(str(_first(failures))) from group
        yield scope.prefix
    finally:
        # What cannot be removed now is a leftover, which the next start removes.
        bounded = trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP)
        with bounded, contextlib.suppress(DockerError):
            await clear(api, containers, [scope.prefix])


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def clear(api: DockerApi, containers: Sequence[str], networks: Sequence[str]) -> None:
    """Removes containers, then networks. All are tried; raises the DockerError of the first that failed."""
    failure: DockerError | None = None
    for name in containers:
        try:
            await api.remove(name)
        except DockerError as error:
            failure = failure or error
    for name in networks:
        try:
            await api.remove_network(name)
        except DockerError as error:
            failure = failure or error
    if failure is not None:
        raise failure


async def _start(api: DockerApi, spec: ServiceSpec, scope: Scope, log: TaskLog) -> _Service:
    await log.line(markers.service(spec.name, spec.image))
    try:
        image = (await have(api, spec.image, scope.pull_policy, log)).get("Config") or {}
        container = f"{scope.prefix}-{spec.name}"
        config: dict[str, object] = {
            "Image": spec.image,
            "Env": [f"{name}={value}" for name, value in spec.env.items()],
            "Labels": dict(scope.labels),
            "HostConfig": {**scope.host_config, "NetworkMode": scope.prefix},
            "NetworkingConfig": {"EndpointsConfig": {scope.prefix: {"Aliases": [spec.name]}}},
        }
        if spec.command:
            config["Cmd"] = list(spec.command)
        with trio.CancelScope(shield=True):  # as for the network
            await api.create(container, config)
        await api.start(container)
        # podman leaves the health check out of what it says about an image.
        made = (await api.inspect(container)).get("Config") or {}
    except DockerError as error:
        raise EngineError(f"{spec.name}: {error}") from error
    except EngineError as error:
        raise EngineError(f"{spec.name}: {error}") from error
    return _Service(spec.name, container, _ports(image), _health(made))


def _ports(image: Mapping[str, Any]) -> tuple[int, ...]:
    """The TCP ports that the image exposes."""
    found = []
    for port in image.get("ExposedPorts") or {}:
        number, _, protocol = str(port).partition("/")
        if protocol in {"", "tcp"} and number.isdecimal():
            found.append(int(number))
    return tuple(sorted(found))


def _health(container: Mapping[str, Any]) -> tuple[str, ...]:
    """The command of the health check that came with the image; empty without one."""
    test = list((container.get("Healthcheck") or {}).get("Test") or [])
    if test[:1] == ["CMD"]:
        return tuple(test[1:])
    return ("/bin/sh", "-c", *test[1:]) if test[:1] == ["CMD-SHELL"] else ()


async def _until_ready(api: DockerApi, service: _Service, scope: Scope, log: TaskLog) -> None:
    """Waits for the health check, else for the ports. The check is run from here: podman needs systemd to run it, and
    docker runs it only every half minute."""
    name, began = service.name, trio.current_time()
    if service.health:
        await log.line(f"waiting for service {name}: its health check")
    elif service.ports and not scope.rootless:
        ports = ", ".join(map(str, service.ports))
        await log.line(f"waiting for service {name}: port {ports}")
    else:
        why = "ports cannot be reached from here on a rootless engine" if service.ports else "no health check, no ports"
        await _running(api, service, log)
        await log.line(f"service {name} started; nothing to wait for ({why})")
        return
    with trio.move_on_after(READY) as limit:
        if service.health:
            await _healthy(api, service, log)
        else:
            await _accepting(api, service, log)
    if limit.cancelled_caught:
        await _show_last_lines(api, service, log)
        raise EngineError(f"{name} was not ready within {READY:.0f} s")
    await log.line(f"service {name} is ready after {format_duration(trio.current_time() - began)}")


async def _running(api: DockerApi, service: _Service, log: TaskLog) -> str:
    """The address of a running service. EngineError with its last lines in the log when it has ended."""
    state = await api.inspect(service.container)
    if not state["State"].get("Running"):
        await _show_last_lines(api, service, log)
        code = state["State"].get("ExitCode")
        raise EngineError(f"{service.name} ended with exit code {code} before it was ready; see its last lines above")
    networks = state["NetworkSettings"].get("Networks") or {}
    return next((str(network["IPAddress"]) for network in networks.values() if network.get("IPAddress")), "")


def _pauses() -> Iterator[float]:
    pause = LOOK
    while True:
        yield pause
        pause = min(pause * 1.3, LONGEST_LOOK)


async def _healthy(api: DockerApi, service: _Service, log: TaskLog) -> None:
    for pause in _pauses():
        await _running(api, service, log)
        with trio.move_on_after(CHECK):
            try:
                if await api.check_health(service.container, list(service.health)):
                    return
            except DockerError as error:
                if error.status not in {404, 409, 500}:  # it ended in between, which the next look will tell
                    raise
        await trio.sleep(pause)


async def _accepting(api: DockerApi, service: _Service, log: TaskLog) -> None:
    missing = set(service.ports)
    last = trio.current_time()
    for pause in _pauses():
        address = await _running(api, service, log)
        for port in sorted(missing):
            if address and await _accepts(address, port):
                missing.discard(port)
                last = trio.current_time()
        if not missing:
            return
        if len(missing) < len(service.ports) and trio.current_time() - last > QUIET:
            shown = ", ".join(map(str, sorted(missing)))
            await log.line(f"service {service.name} does not accept on port {shown}; going on without", STDERR)
            return
        await trio.sleep(pause)


async def _accepts(address: str, port: int) -> bool:
    with trio.move_on_after(CONNECT):
        try:
            await (await trio.open_tcp_stream(address, port)).aclose()
        except OSError:
            return False
        return True
    return False


async def _show_last_lines(api: DockerApi, service: _Service, log: TaskLog) -> None:
    try:
        text = (await api.last_lines(service.container, LAST_LINES)).decode("utf-8", "replace")
    except DockerError:
        return
    for line in text.splitlines():
        await log.line(f"[{service.name}] {line}", STDERR)
