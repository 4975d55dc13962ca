"""From one major version of PostgreSQL to the next, for a data directory that stands still (embedded-postgres A7).

The old programs are needed once: those that were said, a copy that an earlier gocdnext left in the state directory, or the
system's. `pg_upgrade` copies; the old data directory is left as it was and kept under another name, and a dump is taken before.
Whatever fails leaves the old version startable.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from gocdnext.db import cluster, leftover, pgconf, queries, reach, statedir
from gocdnext.db.binaries import Binaries, find_binaries
from gocdnext.db.dumps import Dumper
from gocdnext.db.errors import DatabaseStartError, StateDirectoryError, state_error
from gocdnext.db.postmaster import LogFile, running
from gocdnext.db.runtime import kept_copies, stage
from gocdnext.db.serviceuser import ServiceUser, service_user
from gocdnext.db.statedir import StateDir

TIMEOUT = 6 * 3600.0
"""Seconds that pg_upgrade may take."""
_SQL = queries.load("backup")


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What was done, or with `check` would be."""

    old: int
    new: int
    kept: Path | None
    """The old data directory, under its new name; None when nothing was changed."""


async def upgrade(
    state: StateDir, pg_bindir: Path | None, old_bindir: Path | None, *, check: bool, told: Callable[[str], None]
) -> Upgraded:
    """Brings the data directory to the major version of this program's PostgreSQL; with `check` only says whether it could.

    Inside an open loop. Raises DatabaseStartError, StateDirectoryError.
    """
    major = cluster.data_major(state.pg)
    if major is None:
        raise StateDirectoryError(f"there is no database in {state.path}: say --state")
    user = await trio.to_thread.run_sync(service_user)
    new = await trio.to_thread.run_sync(find_binaries, pg_bindir)
    if new.major == major:
        return Upgraded(major, major, None)
    if new.major < major:
        raise DatabaseStartError(
            f"the database was made by PostgreSQL {major} and this program has PostgreSQL {new.version}: a database never goes "
            "back. Nothing was changed. Use the gocdnext that made it."
        )
    places = [] if old_bindir else kept_copies(state.path)
    old = await trio.to_thread.run_sync(lambda: find_binaries(old_bindir, major, kept=places))
    data = state.pg / str(major)
    size = await trio.to_thread.run_sync(_size, data)
    statedir.require_space(state.path, (0 if check else 2 * size) + cluster.FIRST_START_BYTES)
    told(f"PostgreSQL {old.version} ({old.bin_dir}) to {new.version}: {size // 2**20} MiB")
    statedir.prepare_for_postgres(state, user)
    if user.dropped:
        new = await trio.to_thread.run_sync(stage, new, state.path)
    # A start of the old one ends what a crash may have left undone, and dumps what there is.
    async with reach.embedded(state, old.bin_dir) as found:
        if not check:
            dump = await Dumper(state.path, found.connect, old.bin_dir).dump(found.db)
            told(f"dumped before: {dump}")
    await leftover.settle(data, state.path / "run", user)
    await _run(state, user, (old, data), new, check=check)
    if check:
        return Upgraded(major, new.major, None)
    return Upgraded(major, new.major, await _take_over(state, data, new, told))


async def _run(
    state: StateDir, user: ServiceUser, before: tuple[Binaries, Path], new: Binaries, *, check: bool
) -> None:
    """Makes `<new>.upgrading` and runs pg_upgrade into it; with `check` nothing is left of it."""
    old, data = before
    making = state.pg / f"{new.major}.upgrading"
    shutil.rmtree(making, ignore_errors=True)
    await cluster.initdb(new, making, user, state)
    logfile, done = LogFile(state.log / "pg_upgrade.log"), False
    try:
        with _workplace(user) as place:
            access = f"-c hba_file={place}/hba -c ident_file={place}/ident"
            command: list[str | Path] = [new.program("pg_upgrade"), *(["--check"] if check else [])]
            command += ["-b", old.bin_dir, "-B", new.bin_dir, "-d", data, "-D", making, "-U", pgconf.DATABASE_USER]
            command += ["-s", place, "-o", access, "-O", access]
            # It writes into its current directory, and children of ours have none.
            inside = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", place, *command]
            async with running(inside, user=user, log=logfile, death=signal.SIGKILL) as child:
                with trio.move_on_after(TIMEOUT):
                    await child.wait()
        if child.exit_code != 0:
            raise DatabaseStartError(
                f"pg_upgrade ended with exit code {child.exit_code}, and the database is as it was. Its last lines, more of "
                f"them in {state.log / 'pg_upgrade.log'}:\n{logfile.tail()}"
            )
        done = not check
    finally:
        if not done:
            shutil.rmtree(making, ignore_errors=True)


async def _take_over(state: StateDir, data: Path, new: Binaries, told: Callable[[str], None]) -> Path:
    """The new data directory gets its name once, and keeps it if PostgreSQL starts on it; the old one's new name."""
    target, kept = state.pg / str(new.major), data.with_name(f"{data.name}.old")
    try:
        target.with_name(f"{target.name}.upgrading").rename(target)
        statedir.sync_directory(state.pg)
    except OSError as error:
        raise state_error(target, error) from error
    done = False
    try:
        async with reach.embedded(state, new.bin_dir) as found:
            await found.db.execute(_SQL.analyze)
        done = True
    finally:
        if not done:
            shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(kept, ignore_errors=True)
    os.rename(data, kept)
    statedir.sync_directory(state.pg)
    told(f"the database as it was is kept; when all is well: rm -rf {shlex.quote(str(kept))}")
    return kept


@contextmanager
def _workplace(user: ServiceUser) -> Iterator[Path]:
    """A directory of PostgreSQL's user with a short and plain name, for sockets and pg_upgrade's own files; who may connect."""
    with tempfile.TemporaryDirectory(prefix="gocdnext-upgrade-", dir="/tmp") as name:
        place = Path(name)
        (place / "hba").write_text(pgconf.pg_hba_conf(), encoding="utf-8")
        (place / "ident").write_text(pgconf.pg_ident_conf(user), encoding="utf-8")
        if user.dropped:
            for path in (place / "hba", place / "ident", place):
                os.chown(path, user.uid, user.gid)
        yield place


def _size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
