"""A whole server for the bench: the zipapp in a fresh state directory, and a scripted agent that only counts."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx

PROGRAM = Path(__file__).parents[2] / "dist" / "gocdnext"
START_WITHIN = 60.0


@dataclass
class Server:
    """A running server and how to reach it."""

    process: subprocess.Popen[bytes]
    http: str
    grpc_port: int
    state: Path
    ready_after: float
    """Seconds from exec to `/readyz` 200."""

    def descendants(self) -> list[int]:
        """Process ids of the server and everything below it."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        found = [self.process.pid]
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found


def free_port() -> int:
    """A loopback port that nobody had a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    state: Path, *arguments: str, shiv_root: Path | None = None, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Server]:
    """The zipapp's `serve` on free ports, or the checkout's where there is no zipapp; stopped with SIGTERM at the end."""
    http_port, grpc_port = free_port(), free_port()
    environment = os.environ | {
        "GOCDNEXT_HTTP_ADDR": f"127.0.0.1:{http_port}",
        "GOCDNEXT_GRPC_ADDR": f"127.0.0.1:{grpc_port}",
        "GOCDNEXT_AGENT_REGISTRATION_TOKEN": "bench-registration-token",
        **variables,
    }
    program = [PROGRAM] if PROGRAM.exists() else [sys.executable, "-m", "gocdnext.cli"]
    if shiv_root is not None:
        environment["SHIV_ROOT"] = str(shiv_root)
    log = (state.parent / f"{state.name}.log").open("ab")
    started = time.perf_counter()
    process = subprocess.Popen(
        [*program, "serve", "--state", state, *arguments], env=environment, stdout=log, stderr=subprocess.STDOUT
    )
    url = f"http://127.0.0.1:{http_port}"
    try:
        _wait_ready(process, url)
        yield Server(process, url, grpc_port, state, time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        finally:
            process.kill()
            log.close()


def _wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.perf_counter() + START_WITHIN
    with httpx.Client() as client:
        while time.perf_counter() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{url}/readyz").status_code == 200:
                    return
            time.sleep(0.002)
    raise RuntimeError(f"the server was not ready: exit code {process.poll()}")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="gocdnext-bench-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def pss_kib(pid: int) -> int:
    """Proportional set size in KiB; 0 for a process that is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
