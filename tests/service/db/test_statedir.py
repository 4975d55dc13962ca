"""The state directory: lock, keys, modes, and where the socket goes."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from gocdnext.db import statedir
from gocdnext.db.errors import InstanceRunningError, StateDirectoryError
from gocdnext.db.serviceuser import ServiceUser
from gocdnext.db.statedir import LONGEST_SOCKET_PATH, SOCKET_NAME, open_state, socket_dir

US = ServiceUser("us", os.geteuid(), os.getegid(), dropped=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def snapshot(directory: Path) -> list[tuple[str, int, int, bytes]]:
    """Names, times, modes and contents of everything below."""
    return [
        (str(path), path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted([directory, *directory.rglob("*")])
    ]


def test_a_new_directory_is_private_and_its_parents_are_made(tmp_path: Path) -> None:
    with open_state(tmp_path / "a" / "b") as state:
        assert mode(state.path) == 0o700
        assert (state.path / "lock").read_text().strip() == str(os.getpid())


def test_a_second_instance_is_refused_by_pid_and_touches_nothing(tmp_path: Path) -> None:
    with open_state(tmp_path / "s"):
        before = snapshot(tmp_path)
        with pytest.raises(InstanceRunningError, match=f"process {os.getpid()}") as caught, open_state(tmp_path / "s"):
            pytest.fail("two at once")
        assert caught.value.pid == os.getpid()
        assert snapshot(tmp_path) == before
    with open_state(tmp_path / "s"):
        pass


def test_a_lock_of_one_who_has_not_said_who_it_is(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as other:
        tmp_path.chmod(0o700)
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InstanceRunningError, match="another process") as caught, open_state(tmp_path):
            pytest.fail("two at once")
        assert caught.value.pid is None


def test_a_key_is_made_once_and_stays(tmp_path: Path) -> None:
    with open_state(tmp_path / "s") as state:
        assert not state.has_key("secret")
        key = state.ensure_key("secret")
        assert len(key) == statedir.KEY_BYTES
        assert mode(state.path / "secret.key") == 0o400
        assert state.ensure_key("secret") == key
        assert state.ensure_key("other") != key
    with open_state(tmp_path / "s") as state:
        assert state.has_key("secret")
        assert state.ensure_key("secret") == key


def test_a_crash_while_a_key_was_made_is_harmless(tmp_path: Path) -> None:
    with open_state(tmp_path / "s") as state:
        (state.path / "secret.key.tmp").write_bytes(b"half")
        assert len(state.ensure_key("secret")) == statedir.KEY_BYTES
        assert sorted(path.name for path in state.path.iterdir()) == ["lock", "log", "secret.key"]


def test_a_damaged_or_open_key_is_refused_and_kept(tmp_path: Path) -> None:
    with open_state(tmp_path / "s") as state:
        key = state.path / "secret.key"
        key.write_bytes(b"short")
        key.chmod(0o400)
        with pytest.raises(StateDirectoryError, match="damaged"):
            state.ensure_key("secret")
        assert key.read_bytes() == b"short"
        key.chmod(0o644)
        with pytest.raises(StateDirectoryError, match="chmod 0400"):
            state.ensure_key("secret")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "a.b"])
def test_a_keys_name_cannot_leave_the_directory(tmp_path: Path, name: str) -> None:
    with open_state(tmp_path / "s") as state, pytest.raises(ValueError, match="name"):
        state.ensure_key(name)


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StateDirectoryError, match="chmod go-w"), open_state(tmp_path):
        pytest.fail("opened")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    with pytest.raises(StateDirectoryError, match="cannot use"), open_state(tmp_path / "s"):
        pytest.fail("opened")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(StateDirectoryError, match="belongs to user 12345"), open_state(tmp_path):
        pytest.fail("opened")
    assert list(tmp_path.iterdir()) == []


def test_the_socket_lies_in_the_state_directory_if_its_path_is_short(tmp_path: Path) -> None:
    with open_state(tmp_path / "s") as state:
        statedir.prepare_for_postgres(state, US)
        assert socket_dir(state, US) == state.path / "run"


def test_a_long_path_gets_a_private_socket_directory_elsewhere(tmp_path: Path) -> None:
    with open_state(tmp_path / ("x" * LONGEST_SOCKET_PATH)) as state:
        statedir.prepare_for_postgres(state, US)
        place = socket_dir(state, US)
        try:
            assert len(os.fsencode(place / SOCKET_NAME)) <= LONGEST_SOCKET_PATH
            assert (mode(place), place.stat().st_uid) == (0o700, US.uid)
            assert socket_dir(state, US) == place
        finally:
            statedir.remove_socket_dir(state, place)
        assert not place.exists()
        assert (state.path / "run").is_dir()


def test_a_name_that_somebody_else_took_is_not_used(tmp_path: Path) -> None:
    with open_state(tmp_path / ("y" * LONGEST_SOCKET_PATH)) as state:
        statedir.prepare_for_postgres(state, US)
        taken = socket_dir(state, US)
        taken.chmod(0o755)
        place = socket_dir(state, US)
        try:
            assert place != taken
            assert mode(place) == 0o700
        finally:
            taken.rmdir()
            place.rmdir()


def test_space_is_asked_for_before_a_first_start(tmp_path: Path) -> None:
    statedir.require_space(tmp_path, 1)
    with pytest.raises(StateDirectoryError, match="no space left"):
        statedir.require_space(tmp_path, 2**62)
