"""This machine: Python, clock, limits, and the variables of the environment."""

from __future__ import annotations

import ctypes
import difflib
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from gocdnext.agent.config import TABLE
from gocdnext.config import VARIABLES
from gocdnext.doctor.findings import Finding, fail, ok, skipped, warn
from gocdnext.doctor.ground import Ground

OLDEST_PYTHON = (3, 11)
FILES_NEEDED = 1024
"""Open files: a connection of the pool, a reader, an agent and a blob each take one."""
FILES_WANTED = 4096
OTHER_VARIABLES = frozenset({"GOCDNEXT_TOKEN", "GOCDNEXT_SERVER_URL"})
OBSOLETE = frozenset({"GOCDNEXT_WEBHOOK_TOKEN", "GOCDNEXT_CONFIG_FOLDER"})
_TIME_ERROR = 5
"""What adjtimex(2) returns while nothing keeps the clock right."""
_MAX_ERROR_AT = 3 * ctypes.sizeof(ctypes.c_long)
"""Where `struct timex` has `maxerror`, in microseconds: after modes (padded), offset and freq."""


def python() -> Finding:
    """The interpreter that runs this."""
    version = sys.version.split()[0]
    if sys.version_info >= OLDEST_PYTHON:
        return ok("Python", version)
    return fail("Python", version, "Install Python 3.11 or newer.")


def clock() -> Finding:
    """Whether something keeps the clock right, as the kernel knows it (the same in a container)."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(512)  # zeroes: modes 0 only reads
    state = libc.adjtimex(timex)
    if state < 0:
        return skipped("clock", f"the kernel does not say ({os.strerror(ctypes.get_errno())})")
    if state == _TIME_ERROR:
        advice = "Switch on NTP: timedatectl set-ntp true, or install chrony. Links and leases expire by the clock."
        return warn("clock", "nothing keeps it right: it is not synchronised", advice)
    error = int.from_bytes(timex.raw[_MAX_ERROR_AT : _MAX_ERROR_AT + 8], sys.byteorder)
    return ok("clock", f"synchronised, at most {error / 1e6:.3g} s off")


def open_files(ground: Ground) -> Finding:
    """The limit of open files, of the running server if there is one, else of this shell."""
    soft, whose = resource.getrlimit(resource.RLIMIT_NOFILE)[0], "here"
    if ground.server_pid is not None:
        try:
            limits = Path(f"/proc/{ground.server_pid}/limits").read_text(encoding="ascii")
            said = next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3]
            used = len(os.listdir(f"/proc/{ground.server_pid}/fd"))
        except OSError as error:
            return skipped("open files", f"process {ground.server_pid} is not ours to look at ({error.strerror})")
        soft, whose = -1 if said == "unlimited" else int(said), f"for the server, which has {used} open"
        if 0 <= soft <= used * 5 // 4:
            return fail("open files", f"{soft} {whose}", _more_files())
    if soft == resource.RLIM_INFINITY:
        return ok("open files", f"no limit {whose}")
    if soft < FILES_NEEDED:
        return fail("open files", f"{soft} {whose}", _more_files())
    if soft < FILES_WANTED and ground.server_pid is not None:
        return warn("open files", f"{soft} {whose}", _more_files())
    return ok("open files", f"{soft} {whose}")


def _more_files() -> str:
    return "Allow more: LimitNOFILE=65536 in the unit, or `ulimit -n 65536` before `gocdnext serve`."


def variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that look like settings and are none: a slip of the pen is silent otherwise."""
    known = {each.name for each in VARIABLES} | {each.name for each in TABLE} | OTHER_VARIABLES
    wrong = 0
    for name in sorted(environ):
        if not name.startswith("GOCDNEXT_") or name in known:
            continue
        wrong += 1
        if name in OBSOLETE:
            yield warn("settings", f"{name} is obsolete and ignored", "Remove it.")
            continue
        near = difflib.get_close_matches(name, known, 1)
        meant = f"Is {near[0]} meant? " if near else ""
        yield warn("settings", f"{name} is no setting and does nothing", f"{meant}All of them: gocdnext config")
    if not wrong:
        yield ok("settings", "every GOCDNEXT_* variable is known and can be read")
