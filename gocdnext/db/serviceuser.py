"""Which system user PostgreSQL runs as: an own one when we are root, ourselves otherwise.

PostgreSQL refuses to run as root, and initdb refuses a user id without a passwd entry (embedded-postgres A4).
Never falls back to `nobody`, never changes a directory's mode, and never touches an existing user.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from gocdnext.db.errors import DatabaseStartError

NAME = "gocdnext"
USERADD_TIMEOUT = 30.0
"""Seconds that useradd may take (it waits for the lock of /etc/passwd)."""
_ALTERNATIVES = (
    "Or run gocdnext as an ordinary user (systemd: `User=`), or set GOCDNEXT_DATABASE_URL to use a PostgreSQL "
    "server of your own."
)


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """The user that owns the data directory and runs PostgreSQL."""

    name: str
    uid: int
    gid: int
    dropped: bool
    """True when this process is root and its PostgreSQL children give that up."""

    def popen_kwargs(self) -> dict[str, Any]:
        """The arguments of subprocess.Popen that make the child this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.dropped else {}


class _UseraddError(Exception):
    pass


def service_user(name: str = NAME) -> ServiceUser:
    """The user for PostgreSQL. As root the system user `name` is made if there is none.

    Raises DatabaseStartError when the user cannot be made or this process has no passwd entry.
    """
    if os.geteuid() != 0:
        try:
            entry = pwd.getpwuid(os.geteuid())
        except KeyError:
            raise DatabaseStartError(
                f"user id {os.geteuid()} has no entry in /etc/passwd, and PostgreSQL's initdb needs one. Add an entry "
                "for it, or set GOCDNEXT_DATABASE_URL to use a PostgreSQL server of your own."
            ) from None
        return ServiceUser(entry.pw_name, os.geteuid(), os.getegid(), dropped=False)
    found = _lookup(name)
    if found is None:
        try:
            _create(name)
        except _UseraddError as error:
            raise DatabaseStartError(
                f"PostgreSQL must not run as root, and the system user {name} could not be made: {error}. "
                f"Make it with: {' '.join(_command(name))}\n{_ALTERNATIVES}"
            ) from None
        found = _lookup(name)
    if found is None:
        raise DatabaseStartError(f"useradd reported success but there is no user {name}. {_ALTERNATIVES}")
    if found.uid == 0:
        raise DatabaseStartError(f"the user {name} has user id 0, and PostgreSQL must not run as root. {_ALTERNATIVES}")
    return found


def _lookup(name: str) -> ServiceUser | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return ServiceUser(entry.pw_name, entry.pw_uid, entry.pw_gid, dropped=True)


def _command(name: str) -> list[str]:
    try:
        grp.getgrnam(name)
        group = ["--gid", name]
    except KeyError:
        group = ["--user-group"]
    return ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", *group, name]


# Another process may be making the same user, or hold the lock of /etc/passwd.
@retry(
    retry=retry_if_exception_type(_UseraddError),
    stop=stop_after_attempt(4),
    wait=wait_random_exponential(0.1, max=1),
    reraise=True,
)
def _create(name: str) -> None:
    command = _command(name)
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise _UseraddError("there is no useradd on this system")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=USERADD_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _UseraddError(str(error)) from error
    if done.returncode != 0 and _lookup(name) is None:
        raise _UseraddError(done.stderr.strip() or f"useradd ended with exit code {done.returncode}")
