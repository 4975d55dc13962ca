"""The state directory: whose it is, who else may enter it, its keys, and the PostgreSQL that would serve from it."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from gocdnext.db import cluster, serviceuser, statedir
from gocdnext.db.binaries import find_binaries
from gocdnext.db.errors import DatabaseStartError
from gocdnext.doctor.findings import Finding, fail, ok, skipped
from gocdnext.doctor.ground import Ground, existing

NAME = "state directory"


def directory(ground: Ground) -> Finding:
    """Whether a server could be started on it by this user, or by its owner when root asks."""
    path = ground.state
    place = existing(path)
    elsewhere = "or choose another: serve --state DIR"
    if not place.is_dir():
        return fail(NAME, f"{place} is not a folder", f"Move it away, {elsewhere}")
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return fail(NAME, f"{place} is on a file system that is mounted read-only", f"Mount it writable, {elsewhere}")
    if place != path:
        if not os.access(place, os.W_OK | os.X_OK):
            return fail(NAME, f"{place} is not writable", f"Make {path} and give it to this user (chown), {elsewhere}")
        return ok(NAME, f"{path} (will be made)")
    status = path.stat()
    user, whose = os.geteuid(), _name(status.st_uid)
    if status.st_uid != user and user != 0:
        return fail(
            NAME, f"{path} belongs to user {whose}", f"Run as its owner (sudo -u {whose} gocdnext …), {elsewhere}"
        )
    if status.st_mode & 0o022:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        return fail(NAME, f"others may write to {path} (mode {mode})", f"Close it: chmod go-w {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        return fail(NAME, f"{path} is not writable", f"Give its owner its rights back: chmod u+rwx {path}")
    running = f", in use by process {ground.server_pid}" if ground.server_pid else ", no server runs on it"
    return ok(NAME, f"{path}, of user {whose}{running}")


def keys(ground: Ground) -> Iterator[Finding]:
    """Keys that others may read, that are damaged, or that are not the directory's owner's."""
    try:
        found = sorted(ground.state.glob("*.key"))
    except OSError as error:
        yield skipped("keys", f"not ours to look at ({error.strerror})")
        return
    wrong = [finding for path in found for finding in _key(path, ground.state)]
    yield from wrong
    if not wrong:
        yield ok(
            "keys", f"{len(found)} keys, each its owner's alone" if found else "none yet: the first start makes them"
        )


def _key(path: Path, state: Path) -> Iterator[Finding]:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        yield fail("keys", f"{path} is not a file", "Restore it from a backup; a key is never a link.")
    elif status.st_mode & 0o077:
        yield fail("keys", f"others may read {path}", f"Close it: chmod 0400 {path}")
    elif status.st_uid != state.stat().st_uid:
        yield fail("keys", f"{path} belongs to {_name(status.st_uid)}", f"chown {state.owner()} {path}")
    elif status.st_size != statedir.KEY_BYTES:
        advice = "Restore it from a backup; what was sealed with it cannot be read without it."
        yield fail("keys", f"{path} is damaged: {status.st_size} bytes instead of {statedir.KEY_BYTES}", advice)


def postgres(ground: Ground) -> Finding:
    """The programs that `serve` would start, and whether the data is theirs."""
    name = "PostgreSQL"
    if ground.settings.database_url is not None:
        return ok(name, "an external one (GOCDNEXT_DATABASE_URL)")
    try:
        major = cluster.data_major(ground.state / "pg")
        found = find_binaries(ground.settings.pg_bindir, major)
    except DatabaseStartError as error:
        return fail(name, str(error), "`gocdnext serve` cannot start its database without it.")
    return ok(name, f"{found.version} ({found.source}, {found.bin_dir})")


def data(ground: Ground) -> Finding:
    """Whose the database's files are: a restore or a chown by root is what puts them wrong."""
    name = "database files"
    folders = sorted(ground.state.glob("pg/*/PG_VERSION"))
    if not folders:
        return skipped(name, "no embedded database here yet")
    folder, status = folders[-1].parent, folders[-1].parent.stat()
    if ground.state.stat().st_uid == 0:
        try:
            wanted = pwd.getpwnam(serviceuser.NAME).pw_uid
        except KeyError:
            wanted = status.st_uid
    else:
        wanted = ground.state.stat().st_uid
    if status.st_uid != wanted:
        advice = f"chown -R {_name(wanted)} {ground.state / 'pg'}"
        return fail(name, f"{folder} belongs to {_name(status.st_uid)}, PostgreSQL runs as {_name(wanted)}", advice)
    if status.st_mode & 0o027:
        return fail(name, f"others may enter {folder}, and PostgreSQL refuses that", f"chmod 0700 {folder}")
    return ok(name, f"{folder}, of {_name(wanted)}")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
