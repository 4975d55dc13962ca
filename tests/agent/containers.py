"""A podman of our own for the tests: private storage, a socket in a temporary directory, an image of busybox.

Nothing is fetched from a registry, nothing of the machine's own podman is seen or touched. Needs root, podman, runc,
netavark, aardvark-dns, catatonit and busybox-static. With GOCDNEXT_TEST_ENGINE=docker the same tests run on a dockerd
of our own instead; that leaves the interface docker0 and some iptables chains behind, so it is not the default.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.agent.registry import Registry, serving_registry

IMAGE = "localhost/busybox:test"
SERVICE_IMAGE = "localhost/service:test"
"""Exposes port 8080, and has no command of its own."""
HEALTHY_IMAGE = "localhost/healthy:test"
"""Its health check looks for /tmp/healthy."""
PLUGIN_IMAGE = "localhost/plugin:test"
"""Its entry point prints its environment."""
PATIENCE = 20.0
LOCK = Path(tempfile.gettempdir()) / "gocdnext-container-tests.lock"
NEEDED = {
    "podman": "podman",
    "runc": "runc",
    "busybox": "busybox-static",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
    "catatonit": "catatonit",
    "iptables": "iptables",
}
"""What must be there, and the Debian package that has it."""


@dataclass(frozen=True)
class Podman:
    """`command` is podman with its private storage; `socket` speaks the Docker API."""

    folder: Path
    env: dict[str, str]
    registry: Registry
    private_registry: Registry
    socket_name: str = "podman.sock"

    @property
    def socket(self) -> str:
        return str(self.folder / self.socket_name)

    @property
    def command(self) -> list[str]:
        folder = self.folder
        return [
            "podman",
            *("--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp"),
            *("--network-config-dir", f"{folder}/networks", "--events-backend", "none", "--runtime", "runc"),
        ]

    @property
    def service(self) -> list[str]:
        """What serves the socket."""
        return [*self.command, "system", "service", "--time", "0", f"unix://{self.socket}"]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.command, *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def remove(self, *names: str) -> None:
        """Kills and removes containers."""
        for name in names:
            with self.api() as api:
                api.post(f"/containers/{name}/kill")
                api.delete(f"/containers/{name}", params={"force": 1, "v": 1})

    def api(self) -> httpx.Client:
        return httpx.Client(transport=httpx.HTTPTransport(uds=self.socket), base_url="http://docker", timeout=30)

    def containers(self, label: str = "gocdnext.agent") -> list[str]:
        """Names of all containers with a label, running or not."""
        return self.run("ps", "--all", "--filter", f"label={label}", "--format", "{{.Names}}").split()

    def networks(self) -> list[str]:
        return self.run("network", "ls", "--filter", "label=gocdnext.agent", "--format", "{{.Name}}").split()


class Docker(Podman):
    """dockerd in the place of podman."""

    @property
    def command(self) -> list[str]:
        return ["docker", "--host", f"unix://{self.socket}"]

    @property
    def service(self) -> list[str]:
        folder = self.folder
        return [
            *("dockerd", "--data-root", f"{folder}/storage", "--exec-root", f"{folder}/run"),
            *("--pidfile", f"{folder}/pid", "--host", f"unix://{self.socket}"),
        ]


@pytest.fixture(scope="session")
def podman_service() -> Iterator[Podman]:
    """The service, once per session."""
    docker = os.environ.get("GOCDNEXT_TEST_ENGINE") == "docker"
    needed = {"dockerd": "docker.io", "busybox": "busybox-static"} if docker else NEEDED
    missing = [package for tool, package in needed.items() if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        reason = f"needs {', '.join(missing)}" if missing else "needs root"
        if os.environ.get("CI"):
            pytest.fail(f"container tests: {reason}")
        pytest.skip(reason)
    with own_engine(docker=docker) as podman:
        yield podman
        _empty(podman)


@contextlib.contextmanager
def own_engine(*, docker: bool = False) -> Iterator[Podman]:
    """An engine with the images of the tests; all of it goes with the block."""
    # Not under pytest's own folder: names of sockets are limited to about 100 bytes.
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    env = {
        **os.environ,
        "CONTAINERS_CONF": f"{folder}/containers.conf",
        "CONTAINERS_REGISTRIES_CONF": f"{folder}/registries.conf",
    }
    try:
        layout = folder / "layout"
        with (
            serving_registry(layout, private=False) as public,
            serving_registry(layout, private=True) as private,
        ):
            podman = (Docker if docker else Podman)(folder, env, public, private)
            _configure(podman)
            with serving(podman):
                _build_images(podman)
                yield podman
    finally:
        _remove(folder)


@pytest.fixture
def podman(podman_service: Podman) -> Iterator[Podman]:
    """The service; after the test nothing of ours may be left on it."""
    # One test at a time on a machine: services of several test processes would give out the same addresses.
    with open(LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield podman_service
        left = _empty(podman_service)
        assert not left


def _empty(podman: Podman) -> list[str]:
    """Removes all containers and networks of ours; returns their names."""
    containers, networks = podman.containers(), podman.networks()
    podman.remove(*containers)
    for network in networks:
        podman.run("network", "rm", network)
    return [*containers, *networks]


def _configure(podman: Podman) -> None:
    folder = podman.folder
    (folder / "registries.conf").write_text(
        "".join(
            f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n'
            for registry in (podman.registry, podman.private_registry)
        )
    )
    # Where the machine may not raise limits, podman's own defaults fail. No journald: there may be none.
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]\nlog_driver = "k8s-file"\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        '[network]\nnetwork_backend = "netavark"\n'
    )


def _build_images(podman: Podman) -> None:
    root = podman.folder / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "run"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin" / "busybox")
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True, timeout=10).stdout.split()
    for name in names:
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    plugin = root / "bin" / "gocdnext-plugin"
    plugin.write_text("#!/bin/sh\nenv | grep -e ^PLUGIN_ -e ^CI\npwd\n")
    plugin.chmod(0o755)
    tar = podman.folder / "rootfs.tar"
    subprocess.run(["tar", "-C", root, "-cf", tar, "."], check=True, timeout=30)
    podman.run("import", "--change", 'CMD ["/bin/sh"]', str(tar), IMAGE)
    podman.run("import", "--change", "EXPOSE 8080", str(tar), SERVICE_IMAGE)
    podman.run("import", "--change", 'ENTRYPOINT ["/bin/gocdnext-plugin"]', str(tar), PLUGIN_IMAGE)
    _fill_registry(podman, tar)
    if isinstance(podman, Docker):
        podman.run("import", "--change", "HEALTHCHECK CMD test -e /tmp/healthy", str(tar), HEALTHY_IMAGE)
        return
    # podman's `import` cannot write a health check; a build can, from what is here.
    containerfile = podman.folder / "Containerfile"
    containerfile.write_text(f"FROM {IMAGE}\nHEALTHCHECK CMD test -e /tmp/healthy\n")
    podman.run(
        *("build", "--format", "docker", "--isolation", "chroot", "--pull=never", "--tag", HEALTHY_IMAGE),
        *("--file", str(containerfile), str(root)),
    )


def _fill_registry(podman: Podman, tar: Path) -> None:
    """The layout of an image of one layer, written here because docker of this age cannot write one."""
    blobs = podman.registry.layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    kind = "application/vnd.oci.image"
    layer = put(tar.read_bytes(), f"{kind}.layer.v1.tar")
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{kind}.config.v1+json"),
        "layers": [layer],
    }
    index = {"schemaVersion": 2, "manifests": [put(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")]}
    (podman.registry.layout / "index.json").write_text(json.dumps(index))


@contextlib.contextmanager
def serving(podman: Podman) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the service until the context is left."""
    with (podman.folder / "service.log").open("ab") as log:
        service = subprocess.Popen(
            podman.service, env=podman.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + PATIENCE
        with podman.api() as api:
            while not (Path(podman.socket).exists() and _answers(api)):
                assert service.poll() is None, (podman.folder / "service.log").read_text()
                assert time.monotonic() < deadline, "the container engine does not answer"
        yield service
    finally:
        service.terminate()
        try:
            service.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait(PATIENCE)


def _answers(api: httpx.Client) -> bool:
    try:
        return api.get("/_ping").status_code == 200
    except httpx.HTTPError:
        return False


def _remove(folder: Path) -> None:
    """What still runs for this folder, mounts and files; all of it has the folder's name in it."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and f"{folder}/".encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
    for line in Path("/proc/self/mounts").read_text().splitlines()[::-1]:
        target = line.split()[1]
        if target.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", target], capture_output=True, timeout=10)
    shutil.rmtree(folder, ignore_errors=True)
