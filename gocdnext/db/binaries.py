"""Find binaries: the one place that knows where the programs `postgres`, `initdb` and `pg_dump` come from.

Order (embedded-postgres A1): the setting `pg_bindir`, the bundled payload, the system's PostgreSQL, PATH.
The payload is a folder of binaries: its Python layer is located, never imported (it changes modes of parent
directories and sets `trust`, A4). Nothing is started here but a program's `--version`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gocdnext.db.errors import DatabaseStartError

OLDEST_MAJOR = 15
"""The oldest PostgreSQL that the schema and the queries work with."""
SYSTEM_ROOT = Path("/usr/lib/postgresql")
PAYLOAD_MODULE = "embedded_postgres"
PAYLOAD_DISTRIBUTION = "embedded-postgres"
VERSION_TIMEOUT = 20.0
"""Seconds that a program's `--version` may take."""

Source = Literal["setting", "bundled", "kept", "system", "path"]
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)(?:\.\d+|devel|beta\d+|rc\d+)*)")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with PostgreSQL's programs."""

    bin_dir: Path
    major: int
    version: str
    """As the program says it, for example `18.6`."""
    source: Source
    payload: Path | None = None
    """For the bundled payload: the folder that holds `embedded_postgres` and `embedded_postgres.libs`."""
    payload_version: str | None = None
    """Version of the bundled package, which names the staged copy."""

    @property
    def has_builtin_provider(self) -> bool:
        """True when initdb knows the locale provider `builtin` (17 and later)."""
        return self.major >= 17

    def program(self, name: str) -> Path:
        """Path of the program `name`."""
        return self.bin_dir / name


def find_binaries(
    pg_bindir: Path | None = None,
    data_major: int | None = None,
    *,
    system_root: Path = SYSTEM_ROOT,
    search_path: str | None = None,
    bundled: bool = True,
    kept: Sequence[Path] = (),
) -> Binaries:
    """The binaries to use. `data_major` is the major version of an existing data directory, which decides.

    Raises DatabaseStartError when none fits; another major version than the data's is never chosen.
    `search_path` replaces PATH; `bundled=False` leaves the payload out of the search. `kept` are folders of programs that
    an earlier gocdnext has left: they serve data of their version until it is upgraded.
    """
    seen: list[Binaries] = []
    if pg_bindir is not None:
        chosen = _inspect(pg_bindir.resolve(), "setting")
        if chosen is None:
            raise DatabaseStartError(
                f"GOCDNEXT_PG_BINDIR is {pg_bindir}, but there are no working programs `postgres` and `initdb` in it. "
                "Correct the setting or remove it."
            )
        seen.append(chosen)
    else:
        for candidate in _candidates(system_root, search_path, bundled, kept if data_major is not None else ()):
            seen.append(candidate)
            if data_major is None or candidate.major == data_major:
                break
    for candidate in seen:
        if candidate.major >= OLDEST_MAJOR and data_major in (None, candidate.major):
            return candidate
    raise DatabaseStartError(_none_fits(seen, data_major))


def _candidates(system_root: Path, search_path: str | None, bundled: bool, kept: Sequence[Path]) -> Iterator[Binaries]:
    """Working binaries of at least OLDEST_MAJOR, best first."""
    places: list[tuple[Path, Source]] = []
    own = payload_bin() if bundled else None
    if own is not None:
        places.append((own, "bundled"))
    places += [(place, "kept") for place in kept]
    versions = [place for place in _listdir(system_root) if place.name.isdigit() and int(place.name) >= OLDEST_MAJOR]
    places += [(place / "bin", "system") for place in sorted(versions, key=lambda place: -int(place.name))]
    on_path = shutil.which("postgres", path=search_path)
    if on_path is not None:
        # The link's target: initdb and the libraries are found beside the real program.
        places.append((Path(on_path).resolve().parent, "path"))
    for place, source in places:
        found = _inspect(place, source)
        if found is not None and found.major >= OLDEST_MAJOR:
            yield found


def _listdir(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def payload_bin() -> Path | None:
    """The folder of the bundled programs, if they are bundled."""
    payload = _payload()
    return None if payload is None else payload / PAYLOAD_MODULE / "pginstall" / "bin"


def _payload() -> Path | None:
    """The folder that the bundled package was installed into, found without importing it."""
    try:
        spec = importlib.util.find_spec(PAYLOAD_MODULE)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))).resolve().parent


def version_said(bin_dir: Path, *programs: str) -> tuple[str, int] | None:
    """What the first of these programs says of its version, and its major number; None when they are not all there and
    working."""
    if not all(os.access(bin_dir / name, os.X_OK) for name in programs):
        return None
    try:
        done = subprocess.run(
            [bin_dir / programs[0], "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT,
            check=True,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(done.stdout)
    return (match[1], int(match[2])) if match else None


def _inspect(bin_dir: Path, source: Source) -> Binaries | None:
    """What is in `bin_dir`, or None when `postgres` and `initdb` are not both there and working."""
    said = version_said(bin_dir, "postgres", "initdb")
    if said is None:
        return None
    version, major = said
    if source != "bundled":
        return Binaries(bin_dir, major, version, source)
    return Binaries(bin_dir, major, version, source, payload=bin_dir.parents[2], payload_version=_package_version())


def _package_version() -> str | None:
    try:
        return importlib.metadata.version(PAYLOAD_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None


def _none_fits(seen: list[Binaries], data_major: int | None) -> str:
    have = ", ".join(f"{found.version} in {found.bin_dir}" for found in seen) or "none"
    if data_major is None:
        return (
            f"no PostgreSQL {OLDEST_MAJOR} or later was found (seen: {have}). Use the gocdnext that carries its own, "
            "install PostgreSQL and set GOCDNEXT_PG_BINDIR to its bin directory, or set GOCDNEXT_DATABASE_URL."
        )
    return (
        f"the database in the state directory was made by PostgreSQL {data_major}, and no PostgreSQL {data_major} was "
        f"found (seen: {have}). Nothing was changed. Write a backup with the gocdnext that made it (`gocdnext backup`) "
        "and restore it into a new state directory (`gocdnext restore`), or set GOCDNEXT_PG_BINDIR to the bin "
        f"directory of a PostgreSQL {data_major}. With its programs at hand `gocdnext admin upgrade-database` upgrades it."
    )
