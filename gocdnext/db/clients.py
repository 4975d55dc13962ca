"""PostgreSQL's client programs: which are at hand, how they learn where the database is, and one run of each.

The address, with its password, goes to a program through the environment and never through its arguments, which others
on the machine can read. Nothing here knows what is dumped.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import trio

from gocdnext.db.binaries import SYSTEM_ROOT, payload_bin, version_said
from gocdnext.db.errors import DatabaseStartError, full_message

PIECE = 1024 * 1024
"""Bytes read at a time."""
LONGEST_COMPLAINT = 2000
"""Characters of a program's complaint that are repeated."""
_LIBPQ = {
    "host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
    "database": "PGDATABASE", "passfile": "PGPASSFILE", "application_name": "PGAPPNAME", "sslmode": "PGSSLMODE",
    "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslrootcert": "PGSSLROOTCERT", "sslcrl": "PGSSLCRL",
    "target_session_attrs": "PGTARGETSESSIONATTRS", "krbsrvname": "PGKRBSRVNAME", "gsslib": "PGGSSLIB",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
}  # fmt: skip
"""Parts of an address -> libpq's variables. What is not here is a setting of the session, as asyncpg takes it."""


class ProgramError(DatabaseStartError):
    """A client program failed; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Clients:
    """A folder with `pg_dump` and `pg_restore` of one version."""

    bin_dir: Path
    major: int

    def program(self, name: str) -> Path:
        """Path of the program `name`."""
        return self.bin_dir / name


def find_clients(
    server_major: int, pg_bindir: Path | None, *, encrypted: bool = False, system_root: Path = SYSTEM_ROOT
) -> Clients:
    """Client programs that understand a server of `server_major`: its own version or else a later one, of
    GOCDNEXT_PG_BINDIR, the bundled or the system's.

    `encrypted`: the server's own connection is encrypted, so theirs has to be, and the bundled ones cannot (they are built
    without OpenSSL). Raises DatabaseStartError.
    """
    system = sorted(system_root.glob("[0-9]*/bin"), key=lambda place: -int(re.sub(r"\D", "", place.parent.name) or 0))
    on_path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    places = [pg_bindir, None if encrypted else payload_bin(), *system, *on_path]
    found = [
        Clients(place, said[1])
        for place in places
        if place is not None and (said := version_said(place, "pg_dump", "pg_restore")) is not None
    ]
    # The server's own version first: what a later one writes an older server may not read.
    for candidate in sorted(found, key=lambda each: each.major != server_major):
        if candidate.major >= server_major:
            return candidate
    why = " that can encrypt its connection (the bundled one cannot)" if encrypted else ""
    raise DatabaseStartError(
        f"the database is PostgreSQL {server_major}, and there is no pg_dump of that version or later{why} on this machine. "
        f"Install PostgreSQL's client programs (Debian, Ubuntu: postgresql-client-{server_major}), or say where they are "
        "with GOCDNEXT_PG_BINDIR."
    )


def environment(connect: Mapping[str, Any]) -> dict[str, str]:
    """The variables that lead a client program to where `asyncpg.connect(**connect)` goes."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith("PG") or name == "HOME"}
    said = _parts(connect["dsn"]) if "dsn" in connect else {name: str(value) for name, value in connect.items()}
    known = {_LIBPQ[name]: value for name, value in said.items() if name in _LIBPQ}
    settings = {name: value for name, value in said.items() if name not in _LIBPQ}
    if settings:
        known["PGOPTIONS"] = " ".join(f"-c {name}={_escaped(value)}" for name, value in settings.items())
    return inherited | known | {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


async def read(command: Sequence[str | Path], variables: Mapping[str, str], take: Callable[[bytes], None]) -> None:
    """Runs a program and hands its output on piece by piece. Raises ProgramError; what `take` raises ends the program."""
    with _Complaint() as complaint:
        process = await _start(command, variables, complaint, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            while piece := await process.stdout.receive_some(PIECE):
                take(bytes(piece))
            await process.wait()
        finally:
            await _end(process)
        complaint.check(command, process.returncode)


async def write(command: Sequence[str | Path], variables: Mapping[str, str], pieces: AsyncIterable[bytes]) -> None:
    """Runs a program and feeds it. Raises ProgramError; when it ends early, its complaint is what counts."""
    with _Complaint() as complaint:
        process = await _start(command, variables, complaint, stdin=subprocess.PIPE)
        assert process.stdin is not None
        try:
            try:
                async for piece in pieces:
                    await process.stdin.send_all(piece)
            except trio.BrokenResourceError:
                pass
            await process.stdin.aclose()
            await process.wait()
        finally:
            await _end(process)
        complaint.check(command, process.returncode)


async def into_file(command: Sequence[str | Path], variables: Mapping[str, str], descriptor: int) -> None:
    """Runs a program that writes into an open file. Raises ProgramError."""
    with _Complaint() as complaint:
        process = await _start(command, variables, complaint, stdout=descriptor)
        try:
            await process.wait()
        finally:
            await _end(process)
        complaint.check(command, process.returncode)


async def _start(
    command: Sequence[str | Path], variables: Mapping[str, str], complaint: _Complaint, **streams: Any
) -> trio.Process:
    """In a session of its own: Ctrl-C is ours to pass on."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | streams
    try:
        return await trio.lowlevel.open_process(
            [str(word) for word in command],
            env=dict(variables),
            cwd="/",
            stderr=complaint.descriptor,
            start_new_session=True,
            **options,
        )
    except OSError as error:
        raise ProgramError(f"cannot run {command[0]}: {error.strerror}") from error


async def _end(process: trio.Process) -> None:
    """Nothing goes on behind the caller's back. Short: SIGKILL and the wait for it."""
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            process.kill()
            await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await stream.aclose()


class _Complaint:
    """What a program writes to its standard error, in memory: it is short, and the disk may be what it complains about."""

    def __enter__(self) -> Self:
        self.descriptor = os.memfd_create("complaint")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def check(self, command: Sequence[str | Path], code: int | None) -> None:
        if code == 0:
            return
        size = os.fstat(self.descriptor).st_size
        text = os.pread(self.descriptor, LONGEST_COMPLAINT, max(0, size - LONGEST_COMPLAINT))
        said = text.decode("utf-8", "replace").strip()
        name = Path(command[0]).name
        raise ProgramError(f"{name} ended with exit code {code}: {said or 'it said nothing'}")


def says_full(error: ProgramError) -> bool:
    """Whether it was for want of room."""
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def no_room(path: Path) -> ProgramError:
    """The sentence for a file that has no room."""
    return ProgramError(full_message(path))


def _parts(url: str) -> dict[str, str]:
    """The parts of a `postgresql://` address, several hosts included. Raises DatabaseStartError, without repeating it."""
    try:
        parsed = urlsplit(url)
        who, _, where = parsed.netloc.rpartition("@")
        user, _, password = who.partition(":")
        places = [_host_and_port(place) for place in where.split(",")] if where else []
        query = dict(parse_qsl(parsed.query, strict_parsing=bool(parsed.query)))
    except ValueError:
        raise DatabaseStartError("GOCDNEXT_DATABASE_URL is not an address of a database") from None
    found = {
        "user": unquote(user),
        "password": unquote(password),
        "host": ",".join(unquote(host) for host, _ in places),
        "port": ",".join(port for _, port in places) if any(port for _, port in places) else "",
        "dbname": unquote(parsed.path.removeprefix("/")),
    }
    return {name: value for name, value in found.items() if value} | query


def _host_and_port(place: str) -> tuple[str, str]:
    match = re.fullmatch(r"\[([^\]]+)\](?::(\d*))?|([^:]*)(?::(\d*))?", place)
    if match is None:
        raise ValueError("not a host")
    return match[1] or match[3] or "", match[2] or match[4] or ""


def _escaped(value: str) -> str:
    """As libpq reads PGOPTIONS: words end at a space."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
