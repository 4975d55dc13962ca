"""`doctor`: is this machine fit to serve, and is the server in order? Each check says what it found and what to do.

It looks and never changes anything. The checks of the state directory and of PostgreSQL are about this machine; those
of the server go through HTTP.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from gocdnext import __version__
from gocdnext.cli.common import FAILED, Target, print_json, target_options

if TYPE_CHECKING:
    from gocdnext.client import Client

OLDEST_PYTHON = (3, 11)
OLDEST_GIT = (2, 20)
SPACE_NEEDED = 1024**3
"""Bytes that should be free where the state is: a first start takes about 150 MB, logs and blobs the rest."""
TOOL_TIMEOUT = 10


class Check(NamedTuple):
    """One finding. `advice` is what to do when it is not `ok`; a check that is not `required` is only a hint."""

    name: str
    ok: bool
    found: str
    advice: str = ""
    required: bool = True


@click.command()
@target_options
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="The state directory to look at.")
@click.option("--no-server", is_flag=True, help="Only this machine.")
def doctor(target: Target, state: Path | None, no_server: bool) -> None:
    """Check that this machine and the server are in order. Exit code 1 when something has to be done."""
    checks = [*machine(state), *([] if no_server else server(target))]
    failed = [check for check in checks if not check.ok and check.required]
    if target.as_json:
        print_json({"ok": not failed, "checks": [check._asdict() for check in checks]})
    else:
        for check in checks:
            show(check)
    raise SystemExit(FAILED if failed else 0)


def show(check: Check) -> None:
    word, colour = ("ok", "green") if check.ok else ("FAIL", "red") if check.required else ("note", "yellow")
    click.echo(f"{click.style(f'{word:4}', fg=colour)}  {check.name:17} {check.found}")
    if not check.ok and check.advice:
        click.echo(f"      {'':17} {check.advice}")


def machine(state: Path | None) -> Iterator[Check]:
    """What can be said about this machine."""
    yield python()
    yield git()
    yield from settings_and_state(state)


def python() -> Check:
    version = sys.version.split()[0]
    return Check("Python", sys.version_info >= OLDEST_PYTHON, version, "Install Python 3.11 or newer.")


def git() -> Check:
    """The git CLI, which reads the heads of repositories and makes the checkouts of jobs."""
    advice = "Install git 2.20 or newer; pipelines with a git material need it."
    try:
        done = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=TOOL_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("git", False, f"does not run ({error})", advice)
    words = done.stdout.split()
    numbers = tuple(int(part) for part in words[2].split(".")[:2] if part.isdigit()) if len(words) > 2 else ()
    return Check("git", numbers >= OLDEST_GIT, done.stdout.strip(), advice)


def settings_and_state(state: Path | None) -> Iterator[Check]:
    """The settings in the environment, and the place that they lead to."""
    from gocdnext.config import ConfigError, load

    try:
        settings = load(state_dir=state)
    except ConfigError as error:
        yield Check("settings", False, str(error), "Correct the variable. All of them: gocdnext config")
        return
    yield Check("settings", True, "every GOCDNEXT_* variable can be read")
    yield state_directory(settings.state_dir)
    yield space(settings.state_dir)
    if settings.database_url is None:
        yield postgres(settings.pg_bindir)
    else:
        yield Check("database", True, "external (GOCDNEXT_DATABASE_URL)")


def state_directory(path: Path) -> Check:
    """Whether the state directory can be used, or made, by this user."""
    existing = _existing(path)
    if not existing.is_dir():
        return Check("state directory", False, f"{existing} is not a folder", "Choose another: serve --state DIR")
    if not os.access(existing, os.W_OK | os.X_OK):
        advice = f"Run as its owner, give it to this user (chown), or choose another: serve --state DIR (now {path})"
        return Check("state directory", False, f"{existing} is not writable", advice)
    return Check("state directory", True, str(path) + ("" if existing == path else " (will be made)"))


def space(path: Path) -> Check:
    free = shutil.disk_usage(_existing(path)).free
    advice = f"Free space on the disk of {path}: the database stops writing when it is full."
    return Check("disk space", free >= SPACE_NEEDED, f"{free / 1024**3:.1f} GiB free", advice)


def postgres(bindir: Path | None) -> Check:
    """The PostgreSQL that `serve` would start."""
    from gocdnext.db.binaries import find_binaries
    from gocdnext.db.errors import DatabaseStartError

    try:
        found = find_binaries(bindir)
    except DatabaseStartError as error:
        return Check("PostgreSQL", False, str(error))
    return Check("PostgreSQL", True, f"{found.version} ({found.source}, {found.bin_dir})")


def server(target: Target) -> Iterator[Check]:
    """What the server says about itself."""
    from gocdnext.client import ApiError, CannotReachError

    try:
        with target.connect() as client, target.progress("asking the server"):
            version = str(client.version().get("version", "unknown"))
            yield Check("server", True, f"answers at {target.server}")
            yield same_version(version)
            try:
                client.ready()
                yield Check("server ready", True, "its database answers")
            except ApiError as error:
                yield Check("server ready", False, str(error), "Look at the log of the server: journalctl -u gocdnext")
            yield from allowed_and_agents(client)
    except CannotReachError as error:
        yield Check("server", False, str(error), "Start it with `gocdnext serve`, or say where it is with --server.")
    except ApiError as error:
        yield Check("server", False, str(error), "Is this a gocdnext server? Say where it is with --server.")


def same_version(version: str) -> Check:
    advice = "Use the same file on both sides; the older one may not know what the newer one asks for."
    return Check("version", version == __version__, f"server {version}, this program {__version__}", advice, False)


def allowed_and_agents(client: Client) -> Iterator[Check]:
    """Whether the token is good, and whether somebody is there to run jobs."""
    from gocdnext.client import ApiError

    try:
        agents = client.agents()["agents"]
    except ApiError as error:
        yield Check("token", False, str(error), "Sign in with: gocdnext login")
        return
    yield Check("token", True, "this server lets us in")
    online = [agent["name"] for agent in agents if agent.get("health_state") == "online"]
    advice = "No job will run. Start one with `gocdnext agent`, or the server with --local-agent."
    yield Check("agents", bool(online), ", ".join(online) or "none is online", advice, False)


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next((place for place in (path, *path.absolute().parents) if place.exists()), Path("/"))
