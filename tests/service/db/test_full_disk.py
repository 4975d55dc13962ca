"""A full and a read-only state directory: a sentence, nothing lost, and work again when there is room."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gocdnext.db.errors import StateDirectoryError
from gocdnext.db.statedir import open_state
from tests.service.db.harness import Place, cannot, make_place, until

pytestmark = pytest.mark.slow

MIB = 2**20


@contextlib.contextmanager
def mounted(directory: Path, *options: str) -> Iterator[None]:
    """Mounts something on `directory` for the length of the block."""
    if os.geteuid() != 0:
        cannot("mounting needs root")
    done = subprocess.run(["mount", *options, str(directory)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        cannot(f"mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """A file system of its own with `size` bytes."""
    disk = directory / "disk"
    disk.mkdir(exist_ok=True)
    with mounted(disk, "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs"):
        yield disk


def fill(directory: Path) -> Path:
    """Takes all the space there is."""
    filler = directory / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0")
    return filler


@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_a_first_start_without_room_says_so_before_it_begins(reachable: Path, who: str) -> None:
    with small_disk(reachable, 16 * MIB) as disk:
        place = make_place(disk, who, programs=reachable)
        with place.driver() as driver:
            kind, message = driver.error()
        assert kind == "StateDirectoryError"
        assert "no space left" in message
        assert "--state" in message
        assert not (place.state / "pg").exists()


@pytest.mark.parametrize(("who", "size"), [("root", 20), ("root", 50), ("ordinary", 20)])
def test_a_disk_that_fills_up_during_the_first_start(reachable: Path, who: str, size: int) -> None:
    """While the programs are copied, and while the cluster is made; with room it then succeeds."""
    with small_disk(reachable, size * MIB) as disk:
        place = make_place(disk, who, programs=reachable)
        with place.driver("--first-start-bytes", "0") as driver:
            kind, message = driver.error()
        assert kind == "StateDirectoryError", message
        assert "no space left" in message
        subprocess.run(["mount", "-o", f"remount,size={200 * MIB}", disk], check=True)
        with place.driver("--first-start-bytes", "0") as driver:
            driver.ready()
            driver.finish()


@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_a_warm_start_on_a_full_disk(reachable: Path, who: str) -> None:
    with small_disk(reachable, 200 * MIB) as disk:
        place = make_place(disk, who, programs=reachable)
        with place.driver("--first-start-bytes", "0") as driver:
            driver.ready()
            driver.ask("CREATE TABLE kept AS SELECT 42 AS n")
            driver.finish()
        filler = fill(disk)
        with place.driver() as driver:
            kind, message = driver.error()
        assert kind == "StateDirectoryError", message
        assert "no space left" in message
        filler.unlink()
        with place.driver() as driver:
            driver.ready()
            assert driver.ask("SELECT n FROM kept") == [[42]]
            driver.finish()


def test_a_disk_that_fills_up_while_it_serves_loses_nothing_acknowledged(reachable: Path) -> None:
    """First the table finds no room, which fails one statement; then the write-ahead log, which ends PostgreSQL."""
    with small_disk(reachable, 200 * MIB) as disk:
        place = make_place(disk, "ordinary", programs=reachable)
        acknowledged = 0
        with place.driver("--first-start-bytes", "0", "--restarts", "1") as driver:
            driver.ready()
            driver.ask("CREATE TABLE kept (n int, filling text)")
            filler = fill(disk)
            os.truncate(filler, filler.stat().st_size - 4 * MIB)
            while driver.attempt(
                f"INSERT INTO kept SELECT {acknowledged}, repeat('x', 1000) FROM generate_series(1, 99)"
            ):
                acknowledged += 1
            assert acknowledged > 0
            assert driver.ask("SELECT count(*) FROM kept") == [[acknowledged * 99]]
            while driver.attempt("SELECT pg_logical_emit_message(true, 'filling', repeat('x', 1000000))"):
                pass
            # PostgreSQL has ended. It is not tried in vain, and comes back by itself when there is room.
            until(
                lambda: not driver.attempt("SELECT 1") and "waits_for_room" in str(driver.said), "it says so and waits"
            )
            filler.unlink()
            until(lambda: driver.attempt("SELECT 1"), "PostgreSQL is back")
            assert driver.ask("SELECT count(*) FROM kept") == [[acknowledged * 99]]
            driver.finish()


def test_a_read_only_file_system(reachable: Path) -> None:
    place = make_place(reachable, "root" if os.geteuid() == 0 else "ordinary")
    with place.driver() as driver:
        driver.ready()
        driver.finish()
    with mounted(place.state, "--bind", str(place.state)):
        subprocess.run(["mount", "-o", "remount,bind,ro", place.state], check=True)
        with place.driver() as driver:
            kind, message = driver.error()
    assert kind == "StateDirectoryError"
    assert "read-only" in message
    assert str(place.state) in message


def test_a_directory_that_the_user_may_not_write_to(one_place: Place) -> None:
    parent = one_place.state.parent
    parent.chmod(0o500)
    try:
        if one_place.user is None and os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        with one_place.driver() as driver:
            kind, message = driver.error()
    finally:
        parent.chmod(0o700)
    assert kind == "StateDirectoryError"
    assert "may not write" in message
    assert not one_place.state.exists()


def test_a_key_on_a_full_disk_is_refused_and_made_later(reachable: Path) -> None:
    with small_disk(reachable, MIB) as disk, open_state(disk / "state") as state:
        filler = fill(disk)
        with pytest.raises(StateDirectoryError, match="no space left"):
            state.ensure_key("secret")
        assert not state.has_key("secret")
        filler.unlink()
        assert len(state.ensure_key("secret")) == 32


def test_a_parent_that_postgres_cannot_pass_is_named(reachable: Path) -> None:
    place = make_place(reachable / "closed", "root")
    place.state.parent.mkdir(mode=0o700)
    with place.driver() as driver:
        kind, message = driver.error()
    assert kind == "StateDirectoryError"
    assert f"{place.state.parent} has mode 0700" in message
    until(lambda: not place.processes(), "nothing runs")
    assert place.state.parent.stat().st_mode & 0o777 == 0o700
