"""The program as it is given to people: the zipapp, built when it is not up to date, run as its own process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN = 60
STOP_WITHIN = 20


def clean_environment(**changes: str) -> dict[str, str]:
    """This environment without settings of the program, and with `changes`. The program unpacks into `.build`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GOCDNEXT_", "PYTHON"))}
    return inherited | {"SHIV_ROOT": str(ROOT / ".build" / "shiv")} | changes


def build(*arguments: str, root: Path = ROOT) -> None:
    done = subprocess.run(
        [sys.executable, "packaging/make_zipapp.py", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`gocdnext serve` on free ports; may be started again on the same state."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.state = folder / "state"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = clean_environment(
            GOCDNEXT_HTTP_ADDR=self.url.removeprefix("http://"),
            GOCDNEXT_GRPC_ADDR=f"127.0.0.1:{free_port()}",
            GOCDNEXT_SERVER_URL=self.url,
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, self.program, "serve", "--state", self.state, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_WITHIN
        while not self.ready():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> int:
        """SIGTERM; the exit code. Fails when the process takes too long."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_WITHIN)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def call(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the program against this server."""
        done = subprocess.run(
            [sys.executable, self.program, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr + self.log()
        return done

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-5000:]
