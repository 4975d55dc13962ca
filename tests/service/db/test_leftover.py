"""What a killed predecessor left behind: stopped if it is ours, left alone if it is not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gocdnext.db import leftover
from gocdnext.db.binaries import find_binaries
from gocdnext.db.errors import DatabaseStartError
from gocdnext.db.processes import die_with_parent
from gocdnext.db.serviceuser import ServiceUser, service_user
from tests.service.db.harness import PATIENCE, Place, until

pytestmark = pytest.mark.slow


@pytest.fixture
def made(one_place: Place) -> Place:
    """A place with a database that has a table in it."""
    with one_place.driver() as driver:
        driver.ready()
        driver.ask("CREATE TABLE kept AS SELECT 42 AS n")
        driver.finish()
    return one_place


@contextlib.contextmanager
def orphan(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A postmaster on the place's data directory that no driver knows of."""
    bin_dir = place.pg_bindir or find_binaries().bin_dir
    process = subprocess.Popen(
        [bin_dir / "postgres", "-D", place.data, "-c", f"config_file={place.state / 'conf' / 'postgresql.conf'}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGQUIT),
        **service_user().popen_kwargs(),
    )
    try:
        until(lambda: "ready" in _text(place.data / "postmaster.pid"), "the orphan is ready")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGQUIT)
        process.wait(PATIENCE)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_leftover_postmaster_is_stopped_cleanly_and_replaced(made: Place) -> None:
    with orphan(made) as left, made.driver() as driver:
        driver.ready()
        assert left.wait(PATIENCE) == 0
        assert made.postmaster() != left.pid
        assert driver.ask("SELECT n FROM kept") == [[42]]
        driver.finish()


async def test_a_leftover_that_does_not_stop_makes_us_refuse(made: Place) -> None:
    with orphan(made) as left:
        left.send_signal(signal.SIGSTOP)
        with pytest.raises(DatabaseStartError, match=f"kill -INT {left.pid}"):
            await leftover.settle(made.data, made.state / "run", service_user(), timeout=0.2)
        assert left.poll() is None
        left.send_signal(signal.SIGCONT)


async def test_a_postmaster_of_another_user_makes_us_refuse(made: Place) -> None:
    user = service_user()
    other = ServiceUser("other", user.uid + 1, user.gid, dropped=False)
    with orphan(made) as left:
        with pytest.raises(DatabaseStartError, match=f"process {left.pid} of user {user.uid}"):
            await leftover.settle(made.data, made.state / "run", other, timeout=5)
        assert left.poll() is None


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(made: Place) -> None:
    """The classic of containers: the number in the stale lock files is another process at the next start."""
    innocent = subprocess.Popen(["sleep", "1000"], **service_user().popen_kwargs())
    try:
        pid_file = made.data / "postmaster.pid"
        pid_file.write_text(f"{innocent.pid}\n{made.data}\n1700000000\n5432\n/nowhere\n\n  1 1\nready   \n")
        owner = made.data.stat()
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        pid_file.chmod(0o600)
        shutil.copy2(pid_file, made.state / "run" / ".s.PGSQL.5432.lock")
        os.chown(made.state / "run" / ".s.PGSQL.5432.lock", owner.st_uid, owner.st_gid)
        with made.driver() as driver:
            driver.ready()
            assert driver.ask("SELECT n FROM kept") == [[42]]
            driver.finish()
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


async def test_a_program_of_the_same_name_elsewhere_is_left_alone(made: Place, reachable: Path) -> None:
    impostor = reachable / "postgres"
    shutil.copy("/bin/sleep", impostor)
    impostor.chmod(0o755)
    process = subprocess.Popen([impostor, "1000"], cwd=reachable, **service_user().popen_kwargs())  # noqa: ASYNC220 - a program to look at
    try:
        (made.data / "postmaster.pid").write_text(f"{process.pid}\n{made.data}\n")
        await leftover.settle(made.data, made.state / "run", service_user(), timeout=5)
        assert process.poll() is None
        assert not (made.data / "postmaster.pid").exists()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("text", ["", "\n", "0\n", "-1\n", "1\n", "x\n", "99999999999\n", "²\n"])
def test_nonsense_in_the_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "postmaster.pid").write_text(text)
    assert leftover.read_pid(tmp_path) is None
