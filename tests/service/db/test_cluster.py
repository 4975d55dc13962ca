"""The embedded cluster: first and warm start, as root and not, and every way it can be killed."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from tests.service.db.harness import Place, make_place, until
from tests.service.db.test_statedir import snapshot

pytestmark = pytest.mark.slow


def test_a_first_start_a_warm_start_and_what_is_durable(place: Place) -> None:
    with place.driver() as driver:
        connect = driver.ready()
        assert connect["database"] == "gocdnext"
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert driver.ask(f"SHOW {setting}") == [["on"]]
        assert driver.ask("SHOW listen_addresses") == [[""]]
        assert driver.ask("SHOW server_encoding") == [["UTF8"]]
        assert driver.ask("SELECT datlocprovider::text, datlocale FROM pg_database WHERE datname = 'gocdnext'") == [
            ["b", "C.UTF-8"]
        ]
        driver.ask("CREATE TABLE kept AS SELECT 42 AS n")
        driver.finish()
    assert not (place.data / "postmaster.pid").exists()
    with place.driver() as driver:
        assert driver.ready() == connect
        assert driver.ask("SELECT n FROM kept") == [[42]]
        driver.finish()


def test_postgres_never_runs_as_root_and_sees_only_its_own(place: Place) -> None:
    with place.driver() as driver:
        driver.ready()
        owner = os.stat(f"/proc/{place.postmaster()}").st_uid
        assert owner != 0
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [place.state, *place.state.iterdir()]}
        assert modes["pg"] == modes["run"] == modes["log"] == 0o700
        assert modes["lock"] == 0o600
        assert modes["state"] & 0o007 == 0
        assert (place.state / "pg").stat().st_uid == owner
        if place.user is None and os.geteuid() == 0:
            assert modes["state"] == 0o710
            assert place.state.stat().st_uid == 0
            written = [path for path in (place.state / "conf").iterdir() if path.stat().st_uid != 0]
            assert written == []
        # Only the unix socket, only for the owner.
        assert stat.S_IMODE((place.state / "run" / ".s.PGSQL.5432").stat().st_mode) == 0o700
        driver.finish()


def test_other_users_are_turned_away(one_place: Place) -> None:
    with one_place.driver() as driver:
        driver.ready()
        hba = driver.ask("SELECT type, database::text, user_name::text, auth_method FROM pg_hba_file_rules")
        assert hba == [["local", "{all}", "{ci}", "peer"]]
        driver.finish()


def test_a_killed_parent_takes_postgres_with_it_and_loses_nothing(place: Place) -> None:
    with place.driver() as driver:
        driver.ready()
        driver.ask("CREATE TABLE kept AS SELECT 42 AS n")
        assert place.processes()
        driver.kill()
        until(lambda: not place.processes(), "PostgreSQL ends when its parent is killed")
    with place.driver() as driver:
        driver.ready()
        assert driver.ask("SELECT n FROM kept") == [[42]]
        driver.finish()


def test_a_killed_postmaster_is_started_again_with_what_was_committed(place: Place) -> None:
    with place.driver() as driver:
        driver.ready()
        driver.ask("CREATE TABLE kept AS SELECT 42 AS n")
        first = place.postmaster()
        os.kill(first, signal.SIGKILL)
        until(lambda: driver.attempt("SELECT n FROM kept"), "PostgreSQL is started again")
        assert driver.ask("SELECT n FROM kept") == [[42]]
        assert place.postmaster() != first
        driver.finish()


def test_a_postmaster_that_keeps_dying_is_given_up_with_its_last_words(one_place: Place) -> None:
    with one_place.driver("--restarts", "1") as driver:
        driver.ready()
        first = one_place.postmaster()
        os.kill(first, signal.SIGKILL)
        until(lambda: driver.attempt("SELECT 1"), "PostgreSQL is started again")
        os.kill(one_place.postmaster(), signal.SIGKILL)
        kind, message = driver.error()
        assert kind == "DatabaseStartError"
        assert "exit code -9" in message
        assert "ready to accept connections" in message
        assert str(one_place.state / "log") in message


def test_a_second_instance_is_refused_and_touches_nothing(place: Place) -> None:
    def ours() -> list[tuple[str, int, int, bytes]]:
        live = (place.state / "pg", place.state / "log")
        return [entry for entry in snapshot(place.state) if not any(Path(entry[0]).is_relative_to(x) for x in live)]

    with place.driver() as first:
        first.ready()
        before, postmaster = ours(), place.postmaster()
        with place.driver_beside() as second:
            kind, message = second.error()
        assert kind == "InstanceRunningError"
        assert f"process {first.process.pid}" in message
        assert ours() == before
        assert place.postmaster() == postmaster
        assert first.ask("SELECT 1") == [[1]]
        first.finish()


@pytest.mark.parametrize(
    "moment",
    ["lock", "runtime-*.tmp", "pg/*.tmp", "pg/*.tmp/base", "pg/18", "conf/postgresql.conf", "pg/18/postmaster.pid"],
)
def test_killed_at_any_moment_of_the_first_start_it_starts_again(reachable: Path, moment: str) -> None:
    place = make_place(reachable, "root" if os.geteuid() == 0 else "ordinary")
    with place.driver() as driver:
        if not (moment.startswith("runtime") and os.geteuid() != 0):
            until(lambda: list(place.state.glob(moment)), moment)
        driver.kill()
    with place.driver() as driver:
        driver.ready()
        assert driver.ask("SELECT 1") == [[1]]
        driver.finish()
    assert list(place.state.glob("**/*.tmp")) == []


def test_a_long_state_path_works_with_a_socket_elsewhere(reachable: Path) -> None:
    place = make_place(reachable, "ordinary", name="x" * 110)
    with place.driver() as driver:
        sockets = Path(driver.ready()["host"])
        assert not sockets.is_relative_to(place.state)
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        driver.finish()
    assert not sockets.exists()


def test_the_data_of_another_major_version_is_refused_untouched(one_place: Place) -> None:
    with one_place.driver() as driver:
        driver.ready()
        driver.finish()
    one_place.data.rename(one_place.data.with_name("14"))
    (one_place.data.with_name("14") / "PG_VERSION").write_text("14\n")
    before = snapshot(one_place.state / "pg")
    with one_place.driver() as driver:
        kind, message = driver.error()
    assert kind == "DatabaseStartError"
    assert "PostgreSQL 14" in message
    assert "gocdnext backup" in message
    assert snapshot(one_place.state / "pg") == before
