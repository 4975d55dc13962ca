"""What the checks stand on: the settings, the state directory, and the server that may run there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gocdnext.config import Settings, load

LARGEST_ENVIRONMENT = 1024 * 1024
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Ground:
    """One installation, seen from this machine."""

    settings: Settings
    environ: Mapping[str, str]
    """What `settings` were read from."""
    server_pid: int | None
    """The process that has the state directory locked."""
    own: bool
    """Whether the settings are those of the server that runs, or none runs."""

    @property
    def state(self) -> Path:
        """The state directory, which need not be there."""
        return self.settings.state_dir


def stand(state_dir: Path | None, environ: Mapping[str, str] = os.environ) -> Ground:
    """The ground below a state directory. Raises ConfigError.

    A server's settings are in its unit, not in the shell of whoever looks: those of the running one are read from its
    process, where that may be done.
    """
    settings = load(environ, state_dir=state_dir.absolute() if state_dir else None)
    pid = running_server(settings.state_dir)
    if pid is None:
        return Ground(settings, environ, None, own=True)
    theirs = environment_of(pid)
    if theirs is None:
        return Ground(settings, environ, pid, own=False)
    return Ground(load(theirs, state_dir=settings.state_dir), theirs, pid, own=True)


def environment_of(pid: int) -> dict[str, str] | None:
    """The variables that a process was started with, or None when they are not ours to see."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            text = file.read(LARGEST_ENVIRONMENT)
    except OSError:
        return None
    pairs = (os.fsdecode(entry).partition("=") for entry in text.split(b"\0") if entry)
    return {name: value for name, _, value in pairs}


def running_server(state: Path) -> int | None:
    """The process that holds the lock of a state directory, looked up and not tried: a try could be in a server's way."""
    lock = state / "lock"
    with contextlib.suppress(OSError, ValueError):
        inode = str(lock.stat().st_ino)
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            # 1: FLOCK  ADVISORY  WRITE 20212 fe:00:9980084 0 EOF
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
                return int(fields[4])
    return None


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next((place for place in (path, *path.absolute().parents) if os.path.lexists(place)), Path("/"))
