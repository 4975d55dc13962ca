"""The system user that PostgreSQL runs as."""

from __future__ import annotations

import os
import pwd
import subprocess

import pytest

from gocdnext.db.errors import DatabaseStartError
from gocdnext.db.serviceuser import service_user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make users")


@as_root
def test_it_is_made_once_without_home_and_shell() -> None:
    name = f"gocdnext-test{os.getpid()}"
    try:
        user = service_user(name)
        entry = pwd.getpwnam(name)
        assert (user.uid, user.gid, user.dropped) == (entry.pw_uid, entry.pw_gid, True)
        assert user.uid != 0
        assert entry.pw_shell == "/usr/sbin/nologin"
        assert not os.path.exists(entry.pw_dir)
        assert service_user(name) == user
    finally:
        subprocess.run(["userdel", name], check=False, capture_output=True)


@as_root
def test_a_user_that_cannot_be_made_is_explained_with_the_ways_out() -> None:
    with pytest.raises(DatabaseStartError) as caught:
        service_user("not a name")
    for way in ("useradd --system", "User=", "GOCDNEXT_DATABASE_URL"):
        assert way in str(caught.value)


@as_root
def test_another_name_for_root_is_refused() -> None:
    with pytest.raises(DatabaseStartError, match="must not run as root"):
        service_user("root")


@pytest.mark.skipif(os.geteuid() == 0, reason="for an ordinary user")
def test_an_ordinary_user_stays_what_it_is() -> None:
    user = service_user()
    assert (user.uid, user.dropped, user.popen_kwargs()) == (os.geteuid(), False, {})
