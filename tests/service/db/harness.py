"""What the tests of the cluster share: a driver process, a place that PostgreSQL's user can reach, and patience."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from gocdnext.db.binaries import find_binaries
from gocdnext.db.processes import processes_in
from gocdnext.db.runtime import stage
from gocdnext.db.serviceuser import service_user

REPOSITORY = Path(__file__).parents[3]
DRIVER = Path(__file__).with_name("driver.py")
PATIENCE = 60.0
"""Seconds until a test gives up waiting."""


def cannot(reason: str) -> NoReturn:
    """Skips on a laptop, fails in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
    """Returns when the condition holds; fails after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience:.0f} s in vain: {what}")
        time.sleep(0.002)


@dataclass(frozen=True)
class Place:
    """A state directory to be, and the arguments that make the driver the right user."""

    state: Path
    user: str | None
    pg_bindir: Path | None = None

    @property
    def data(self) -> Path:
        return self.state / "pg" / "18"

    def postmaster(self) -> int:
        """The process id of the running postmaster."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def processes(self) -> list[int]:
        """PostgreSQL's processes on the data directory."""
        return processes_in(self.data, "postgres")

    @contextlib.contextmanager
    def driver(self, *options: str) -> Iterator[Driver]:
        """The driver of this place, killed at the end if it still runs; PostgreSQL must end with it."""
        with self.driver_beside(*options) as driver:
            yield driver
        until(lambda: not self.processes(), "PostgreSQL ends with its driver")

    @contextlib.contextmanager
    def driver_beside(self, *options: str) -> Iterator[Driver]:
        """A driver process, killed at the end if it still runs."""
        command = [sys.executable, str(DRIVER), str(self.state), *options]
        if self.user:
            command += ["--user", self.user]
        if self.pg_bindir:
            command += ["--pg-bindir", str(self.pg_bindir)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=REPOSITORY,
        )
        try:
            yield Driver(process)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


class Driver:
    """The other side of `driver.py`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._buffer = b""
        self.said: list[str] = []

    def ready(self) -> dict[str, Any]:
        """Waits until PostgreSQL serves; returns how to connect."""
        connect: dict[str, Any] = json.loads(self._line("ready"))
        return connect

    def error(self) -> tuple[str, str]:
        """Waits for the refusal and the end; returns class and message."""
        kind, _, message = self._line("error").partition(" ")
        assert self.process.wait(PATIENCE) == 3
        return kind, message

    def ask(self, statement: str) -> list[list[Any]]:
        """The rows of a statement; fails if it fails."""
        self.say(statement)
        rows: list[list[Any]] = json.loads(self._line("rows"))
        return rows

    def attempt(self, statement: str) -> bool:
        """Whether the statement succeeded."""
        self.say(statement)
        self._line("rows", "failed")
        return self.said[-1].startswith("rows ")

    def say(self, statement: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(statement.encode() + b"\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        """Ends the input and expects a clean end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0, self._rest()

    def kill(self) -> None:
        """SIGKILL, and nothing else."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def _line(self, *words: str) -> str:
        """What follows the first of `words` that starts a line; other lines are log."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                self.said.append(line.decode())
                word, _, text = line.decode().partition(" ")
                if word in words:
                    return text
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                pytest.fail(f"the driver did not say {words}: {self.said}")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                pytest.fail(f"the driver ended without saying {words}: {self.said}")
            self._buffer += chunk

    def _rest(self) -> str:
        assert self.process.stdout is not None
        return "\n".join([*self.said, (self._buffer + self.process.stdout.read()).decode()])


def make_place(directory: Path, who: str, name: str = "state", *, programs: Path | None = None) -> Place:
    """A place below `directory` for a driver that is `root` (and drops PostgreSQL) or `ordinary`."""
    if who == "root":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        return Place(directory / name, None)
    if os.geteuid() != 0:
        return Place(directory / name, None)
    user = service_user()
    own = directory / "own"
    own.mkdir(mode=0o700)
    found = find_binaries()
    bindir = None
    if not all(parent.stat().st_mode & 0o001 for parent in found.bin_dir.parents):
        programs = (programs or directory) / "programs"
        programs.mkdir(mode=0o755, exist_ok=True)
        bindir = stage(found, programs).bin_dir
    os.chown(own, user.uid, user.gid)
    return Place(own / name, user.name, bindir)
