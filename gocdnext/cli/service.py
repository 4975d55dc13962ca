"""`install-service`: makes a systemd service of a program that somebody copied to its place by hand.

What it would do is known before anything is done (`--dry-run` prints it). What people may have edited is never replaced
without being asked: a unit ends with its own checksum, and settings are only written where there are none.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from gocdnext.cli.common import Cannot, Failure

UNITS = Path("/etc/systemd/system")
SETTINGS = Path("/etc/gocdnext")
BOOTED = Path("/run/systemd/system")
"""Is there where systemd is the first process, sd_booted(3)."""
PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+-]+")
"""Paths that mean the same in a unit as here: no blanks, no quotes, no `%`."""
UNSEEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")
"""Folders that the units do not show to their service (ProtectHome, PrivateTmp)."""
MARK = "# gocdnext install-service wrote this unit; sha256 of what is above: "
PATIENCE = 600
"""Seconds for one command; an agent that stops may let its jobs end first."""


@dataclass(frozen=True, slots=True)
class Service:
    """One of the two services."""

    name: str
    settings: str
    asks_first: str
    """What somebody has to do before it can start; empty when nothing."""

    @property
    def unit(self) -> Path:
        return UNITS / f"{self.name}.service"

    @property
    def home(self) -> str:
        return f"/var/lib/{self.name}"


SERVER = Service("gocdnext", "server.env", "")
AGENT = Service("gocdnext-agent", "agent.env", "Set server, name and token in /etc/gocdnext/agent.env")


@dataclass(frozen=True, slots=True)
class File:
    """Write a file."""

    path: Path
    content: str
    mode: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file."""

    path: Path


@dataclass(frozen=True, slots=True)
class Command:
    """Run a command; its failure ends the installation."""

    argv: tuple[str, ...]


Step = File | Remove | Command


@click.command("install-service")
@click.option("--agent", is_flag=True, help="The agent's service instead of the server's.")
@click.option("--program", type=click.Path(path_type=Path), metavar="FILE", help="The program. Default: this file.")
@click.option("--uninstall", is_flag=True, help="Stop the service and remove its unit. Data, settings and user stay.")
@click.option("--force", is_flag=True, help="Replace or remove a unit although somebody has edited it.")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
def install_service(agent: bool, program: Path | None, uninstall: bool, force: bool, dry_run: bool) -> None:
    """Make a systemd service of this file: user, directories, settings, unit; enable and start it.

    Run it as root on the machine that is to serve. After that an upgrade is: replace the file, restart the service.
    """
    service = AGENT if agent else SERVER
    if not dry_run:
        require_machine()
    refuse_edited(service, force)
    file = os.path.realpath(program or sys.argv[0])
    steps = list(removal(service) if uninstall else installation(service, file))
    for step in steps:
        show(step, whole=dry_run)
        if not dry_run:
            take(step)
    if uninstall:
        click.echo(f"{service.home}, {SETTINGS / service.settings} and the user {service.name} stay.")
    elif service.asks_first:
        click.echo(f"{service.asks_first}, then: systemctl start {service.name}")
    else:
        click.echo(f"Its log: journalctl -u {service.name}. Its settings: {SETTINGS / service.settings}")


def require_machine() -> None:
    """Raises Cannot where this cannot work."""
    if not BOOTED.is_dir():
        raise Cannot(
            "systemd does not run this machine. Start `gocdnext serve` with what does; --dry-run shows the unit."
        )
    if os.geteuid() != 0:
        raise Cannot("only root can make a service. Run it again with sudo; --dry-run shows what it would do.")


def installation(service: Service, program: str) -> Iterator[Step]:
    """Everything that is missing, in order. Raises Failure for a program that a service must not run."""
    check_program(program)
    if not user_exists(service.name):
        yield Command(("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", service.home,
                       "--shell", "/usr/sbin/nologin", service.name))  # fmt: skip
    settings = SETTINGS / service.settings
    if not settings.exists():
        yield File(settings, (templates() / service.settings).read_text(encoding="utf-8"), 0o600)
    unit = File(service.unit, unit_text(service, program), 0o644)
    if read(service.unit) != unit.content:
        yield unit
    yield Command(("systemctl", "daemon-reload"))
    now = () if service.asks_first else ("--now",)
    yield Command(("systemctl", "enable", *now, service.unit.name))


def removal(service: Service) -> Iterator[Step]:
    """Raises Failure when there is no such unit of ours."""
    if not service.unit.exists():
        raise Failure(f"{service.unit} is not there: nothing to remove")
    yield Command(("systemctl", "disable", "--now", service.unit.name))
    yield Remove(service.unit)
    yield Command(("systemctl", "daemon-reload"))


def check_program(program: str) -> None:
    """Raises Failure when the service could not run the program, or others could change what it runs."""
    for path in (program, os.path.realpath(sys.executable)):
        if not PLAIN_PATH.fullmatch(path):
            raise Failure(
                f"{path!r} has characters that mean something else in a unit; copy it to /opt/gocdnext/gocdnext"
            )
        if path.startswith(UNSEEN):
            raise Failure(
                f"a service does not see {path}; copy the program to /opt/gocdnext, use the Python of the system"
            )
    if not zipfile.is_zipfile(program):
        raise Failure(f"{program} is not the one-file program; name it with --program")
    for place in (Path(program), *Path(program).parents):
        status = place.stat()
        if status.st_uid != 0 or (status.st_mode & 0o022 and not status.st_mode & 0o1000):
            raise Failure(f"others than root can change {place}, and a service would run what they put there. "
                          f"Run: chown root:root {place} && chmod go-w {place}")  # fmt: skip


def unit_text(service: Service, program: str) -> str:
    """The unit for this program and this Python, with its checksum."""
    template = (templates() / service.unit.name).read_text(encoding="utf-8")
    text = template.replace("=/opt/gocdnext/gocdnext ", f"={os.path.realpath(sys.executable)} {program} ")
    return f"{text}{MARK}{hashlib.sha256(text.encode()).hexdigest()}\n"


def refuse_edited(service: Service, force: bool) -> None:
    """Raises Failure when the unit is there and is not what this program wrote."""
    text = read(service.unit)
    if text is None or force:
        return
    above, mark, checksum = text.rpartition(MARK)
    if not mark or hashlib.sha256(above.encode()).hexdigest() != checksum.strip():
        raise Failure(
            f"{service.unit} was edited, or somebody else wrote it: it stays as it is. Put what you need into "
            f"`systemctl edit {service.name}`, which outlives upgrades, and run this again with --force."
        )


def templates() -> Path:
    """Units and settings: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "system"
    return inside if inside.is_dir() else package.parent / "packaging" / "system"


def user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def show(step: Step, *, whole: bool) -> None:
    match step:
        case Command(argv):
            click.echo(f"run     {' '.join(argv)}")
        case Remove(path):
            click.echo(f"remove  {path}")
        case File(path, content, mode):
            click.echo(f"write   {path} ({mode:04o})")
            if whole:
                click.echo("".join(f"    {line}\n" for line in content.splitlines()), nl=False)


def take(step: Step) -> None:
    """Does it. Raises Failure with what went wrong."""
    try:
        match step:
            case Command(argv):
                run(argv)
            case Remove(path):
                path.unlink(missing_ok=True)
            case File(path, content, mode):
                write(path, content, mode)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}. Nothing after this step was done; run it again.") from None


def run(argv: tuple[str, ...]) -> None:
    if shutil.which(argv[0]) is None:
        raise Failure(f"{argv[0]} is not here; install it, or do this step by hand: {' '.join(argv)}")
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise Failure(f"`{' '.join(argv)}` takes longer than {PATIENCE} s; see: systemctl status") from None
    if done.returncode != 0:
        raise Failure(f"`{' '.join(argv)}` failed: {done.stderr.strip() or done.returncode}")


def write(path: Path, content: str, mode: int) -> None:
    """Whole or not at all; nobody can read a private file before it has its mode."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.new")
    making.unlink(missing_ok=True)
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)
