"""The state directory: who may enter it, who has it locked, its keys, and where PostgreSQL's socket goes.

    <state>/            0700, as root 0710 with PostgreSQL's group: it may pass, not look
      lock              held with flock for the life of the process; holds the process id
      <name>.key        0400, made once (design decision 16)
      conf/             PostgreSQL's configuration, ours to write, its to read
      log/              its log, written by us
      pg/<major>/, run/ 0700, PostgreSQL's own: as root nothing in here is ever written by us
      runtime-<v>/      as root: the programs (`runtime`)

A second process changes nothing: it fails at the lock before it has written anything. Nothing here starts PostgreSQL.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from gocdnext.db.errors import InstanceRunningError, StateDirectoryError, state_error
from gocdnext.db.processes import sync_filesystem
from gocdnext.db.serviceuser import ServiceUser

LONGEST_SOCKET_PATH = 107
"""Bytes that the path of a unix socket may have on Linux."""
SOCKET_NAME = ".s.PGSQL.5432"
KEY_BYTES = 32
UNFINISHED = "restore-unfinished"
"""A file that is there while a restore is under way."""
_NAME_OF_KEY = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StateDir:
    """An open, locked state directory. Made by `open_state`."""

    path: Path

    @property
    def pg(self) -> Path:
        """Where the data directories lie, one for each major version."""
        return self.path / "pg"

    @property
    def conf(self) -> Path:
        """PostgreSQL's configuration files."""
        return self.path / "conf"

    @property
    def log(self) -> Path:
        """Log files."""
        return self.path / "log"

    def has_key(self, name: str) -> bool:
        """Whether the key was made already."""
        return self._key_path(name).exists()

    def ensure_key(self, name: str) -> bytes:
        """The KEY_BYTES random bytes of `<name>.key`; the first call makes them, durably, and says so once in the log.

        Raises StateDirectoryError for a file that is damaged or that others may read: it is never replaced.
        """
        path = self._key_path(name)
        try:
            if not path.exists():
                _make_key(path)
                log.info("key_created", path=str(path))
            return _read_key(path)
        except OSError as error:
            raise state_error(path, error) from error

    def keep_key(self, name: str, key: bytes) -> None:
        """Writes a key that comes from elsewhere; one that is there already stays. Raises StateDirectoryError."""
        path = self._key_path(name)
        try:
            if not path.exists():
                _make_key(path, key)
        except OSError as error:
            raise state_error(path, error) from error

    def drop_key(self, name: str) -> None:
        """Removes a key that has served. Raises StateDirectoryError."""
        path = self._key_path(name)
        try:
            path.unlink(missing_ok=True)
            sync_directory(self.path)
        except OSError as error:
            raise state_error(path, error) from error

    def restored(self) -> None:
        """A restore has ended well: everything of it is on the disk, and the directory may be used."""
        try:
            sync_filesystem(self.path)
            (self.path / UNFINISHED).unlink(missing_ok=True)
            sync_directory(self.path)
        except OSError as error:
            raise state_error(self.path, error) from error

    def _key_path(self, name: str) -> Path:
        if not name or not _NAME_OF_KEY.issuperset(name):
            raise ValueError(f"not a key's name: {name!r}")
        return self.path / f"{name}.key"


def read_key_file(path: Path, name: str) -> bytes | None:
    """A key of a state directory that another process may have open; None when it is not there.

    Raises StateDirectoryError when it cannot be read.
    """
    file = path / f"{name}.key"
    try:
        return _read_key(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise state_error(file, error) from error


@contextlib.contextmanager
def open_state(path: Path, *, restoring: bool = False) -> Iterator[StateDir]:
    """Makes the state directory if need be, locks it and gives it. The lock ends with the block, or with the process.

    With `restoring` nobody else opens it until `StateDir.restored`, should this process end before.
    Raises InstanceRunningError when another process has it, StateDirectoryError when it cannot be used.
    """
    path = path.resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(path)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise state_error(path, error) from error
    try:
        _lock(lock, path)
        try:
            os.pwrite(lock, f"{os.getpid()}\n".rjust(16).encode(), 0)
            _mark(path, restoring)
            _private_folder(path / "log", 0o700)
        except OSError as error:
            raise state_error(path, error) from error
        yield StateDir(path)
    finally:
        os.close(lock)


def _mark(path: Path, restoring: bool) -> None:
    """Refuses a directory whose restore broke off, or marks the one that begins."""
    marker = path / UNFINISHED
    if restoring:
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        sync_directory(path)
    elif os.path.lexists(marker):
        raise StateDirectoryError(
            f"a restore into {path} broke off, and half of it lies there. Remove what is in the directory and restore again: "
            "gocdnext restore"
        )


def prepare_for_postgres(state: StateDir, user: ServiceUser) -> None:
    """Makes what PostgreSQL needs in the state directory, and lets its user through to that and nothing else.

    Raises StateDirectoryError, also when a parent directory does not let the user pass.
    """
    try:
        _private_folder(state.conf, 0o700)
        if user.dropped:
            for ours, mode in ((state.path, 0o710), (state.conf, 0o750)):
                # Only what is closed to everybody is opened, and only for PostgreSQL's group.
                if not stat.S_IMODE(ours.stat().st_mode) & 0o001:
                    os.chown(ours, 0, user.gid)
                    os.chmod(ours, mode)
            _check_passage(state.pg, user)
        for own in (state.pg, state.path / "run"):
            if not _own_folder(own, user):
                raise StateDirectoryError(
                    f"{own} belongs to user {own.stat().st_uid} or lets others in, and PostgreSQL would run as "
                    f"{user.name}. Start gocdnext as the user who ran it before, or give the directory away: "
                    f"chown -R {user.name} {own} && chmod 0700 {own}"
                )
    except OSError as error:
        raise state_error(state.path, error) from error


def write_conf(state: StateDir, name: str, text: str, user: ServiceUser) -> Path:
    """Writes one configuration file, whole or not at all, readable for PostgreSQL. Raises StateDirectoryError."""
    target = state.conf / name
    making = target.with_name(f"{name}.tmp")
    try:
        making.unlink(missing_ok=True)
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if user.dropped:
                os.fchown(descriptor, 0, user.gid)
                os.fchmod(descriptor, 0o640)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        making.rename(target)
    except OSError as error:
        raise state_error(target, error) from error
    return target


def socket_dir(state: StateDir, user: ServiceUser) -> Path:
    """A directory of mode 0700 that belongs to `user` and whose socket's path is not too long.

    `<state>/run` if it is short enough, else one of the same name at every start below `/run/user/<uid>`,
    `/run/gocdnext` or `/tmp`. Raises StateDirectoryError when none can be had.
    """
    own = state.path / "run"
    if _fits(own):
        return own
    name = f"gocdnext-{user.uid}-{hashlib.sha256(os.fsencode(state.path)).hexdigest()[:16]}"
    for parent in _short_parents(user):
        place = parent / name
        with contextlib.suppress(OSError):
            if _fits(place) and _own_folder(place, user):
                return place
    try:
        # Somebody else took the name in /tmp. It is not followed; a random one does as well.
        random = Path(tempfile.mkdtemp(prefix="gocdnext-", dir="/tmp"))
        if user.dropped:
            os.chown(random, user.uid, user.gid)
    except OSError as error:
        raise state_error(Path("/tmp"), error) from error
    return random


def remove_socket_dir(state: StateDir, directory: Path) -> None:
    """Removes a socket directory outside the state directory after PostgreSQL has left it."""
    if directory != state.path / "run":
        with contextlib.suppress(OSError):
            directory.rmdir()


def require_space(path: Path, wanted: int) -> None:
    """Raises StateDirectoryError unless `wanted` bytes are free where `path` lies."""
    free = free_bytes(path)
    if free < wanted:
        raise StateDirectoryError(
            f"a first start needs {wanted // 2**20} MiB below {path}, and there is no space left for it: "
            f"{free // 2**20} MiB are free. Free some, or choose another directory with --state."
        )


def free_bytes(path: Path) -> int:
    """Free bytes of the file system where `path` lies. Raises StateDirectoryError."""
    try:
        status = os.statvfs(path)
    except OSError as error:
        raise state_error(path, error) from error
    return status.f_bavail * status.f_frsize


def _lock(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(lock, 32, 0).decode(errors="replace").strip()
        pid = int(text) if text.isascii() and text.isdigit() else None
        who = f"process {pid}" if pid else "another process"
        raise InstanceRunningError(
            f"gocdnext is running on {path} already ({who}). Nothing was changed. Stop it first, or give this one "
            "another directory with --state.",
            pid,
        ) from None
    except OSError as error:
        raise state_error(path / "lock", error) from error


def _check_owner(path: Path) -> None:
    """Refuses a directory of another user, or one that others may write to: what lies in it would not be ours alone."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise StateDirectoryError(
            f"{path} belongs to user {status.st_uid} and this is user {os.geteuid()}. Start gocdnext as its owner, or "
            "choose another directory with --state."
        )
    if status.st_mode & 0o022:
        raise StateDirectoryError(
            f"others may write to {path} (mode {stat.S_IMODE(status.st_mode):04o}). Close it with `chmod go-w {path}`, "
            "or choose another directory with --state."
        )


def _private_folder(path: Path, mode: int) -> bool:
    """Makes `path`; True if it was not there. A link or a file in its place is an error."""
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise
        return False
    return True


def _check_passage(path: Path, user: ServiceUser) -> None:
    """Raises StateDirectoryError naming the parent directory that does not let `user` pass."""
    for parent in reversed(path.parents):
        status = parent.stat()
        bit = 0o100 if status.st_uid == user.uid else 0o010 if status.st_gid == user.gid else 0o001
        if not status.st_mode & bit:
            raise StateDirectoryError(
                f"PostgreSQL runs as user {user.name}, who cannot reach {path}: {parent} has mode "
                f"{stat.S_IMODE(status.st_mode):04o}. Choose a directory with --state that it can reach, for example "
                "/var/lib/gocdnext, or run gocdnext as an ordinary user."
            )


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / SOCKET_NAME)) <= LONGEST_SOCKET_PATH


def _short_parents(user: ServiceUser) -> list[Path]:
    """Where a short socket directory may be made, best first."""
    if not user.dropped:
        return [Path(f"/run/user/{user.uid}"), Path("/run/gocdnext"), Path("/tmp")]
    shared = Path("/run/gocdnext")
    with contextlib.suppress(OSError):
        if _private_folder(shared, 0o700):
            os.chown(shared, 0, user.gid)
            os.chmod(shared, 0o710)
        status = shared.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and status.st_gid == user.gid:
            return [shared, Path("/tmp")]
    return [Path("/tmp")]


def _own_folder(path: Path, user: ServiceUser) -> bool:
    """Makes `path` for `user` if need be; False if what is there is not a directory that only `user` may enter."""
    _private_folder(path, 0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or stat.S_IMODE(status.st_mode) != 0o700:
        return False
    if user.dropped and status.st_uid == 0:
        # Made by root just now, or before a crash: nobody else can have made it.
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
        return True
    return status.st_uid == user.uid


def _make_key(path: Path, key: bytes | None = None) -> None:
    """Writes a key, a new one if none is given: whole and on the disk before it has its name. The lock keeps others out."""
    making = path.with_name(f"{path.name}.tmp")
    making.unlink(missing_ok=True)
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    try:
        os.fchmod(descriptor, 0o400)
        if os.write(descriptor, key or secrets.token_bytes(KEY_BYTES)) != KEY_BYTES:
            raise StateDirectoryError(f"{making} could not be written whole; is the disk full?")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    making.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_key(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        content = file.read(KEY_BYTES + 1)
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise StateDirectoryError(f"others may read the key {path}. Close it with: chmod 0400 {path}")
    if len(content) != KEY_BYTES:
        raise StateDirectoryError(
            f"the key {path} is damaged: it has {len(content)} bytes instead of {KEY_BYTES}. Restore it from a backup; "
            "what was encrypted with it cannot be read without it."
        )
    return content
