"""Files as a store of secrets: the directory that was named, and nothing outside of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gocdnext import config
from gocdnext.secrets.stores.configured import CREDENTIALS_PREFIX, _files
from gocdnext.secrets.stores.errors import StoreError
from gocdnext.secrets.stores.files import MAX_BYTES, FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    (tmp_path / "outside").write_text("the key of the server")
    root = tmp_path / "secrets"
    (root / "ci").mkdir(parents=True)
    (root / "TOKEN").write_text("value\n\n")
    (root / "ci" / "release.json").write_text('{"pem": "a\\nb\\n", "port": 8}')
    (root / "leads-out").symlink_to(tmp_path / "outside")
    (root / "leads-in").symlink_to(root / "TOKEN")
    (root / "around").symlink_to(root / "around")
    (root / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    (root / "binary").write_bytes(b"\xff\xfe")
    (root / "nul").write_bytes(b"a\0b")
    os.mkfifo(root / "pipe")
    return FileStore(root)


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ("TOKEN", "", "value"),
        ("ci/release.json", "pem", "a\nb\n"),
        ("ci/release.json", "port", "8"),
        ("leads-in", "", "value"),
    ],
)
async def test_what_is_read(store: FileStore, path: str, key: str, value: str) -> None:
    assert await store.read(path, key) == value
    await store.check()


@pytest.mark.parametrize(
    ("path", "key", "text"),
    [
        ("gone", "", "there is no file gone"), ("leads-out", "", "leads out"), ("around", "", "leads in a circle"),
        ("../outside", "", "not a path"), ("/etc/passwd", "", "not a path"), ("ci/../TOKEN", "", "not a path"),
        (".hidden", "", "not a path"), ("a\0b", "", "not a path"), ("", "", "not a path"), ("ci", "", "is not a file"),
        ("pipe", "", "is not a file"), ("large", "", "larger than 64 KiB"), ("binary", "", "not UTF-8"), ("nul", "", "NUL"),
        ("TOKEN", "pem", "no JSON object"), ("ci/release.json", "gone", "no field gone"),
    ],
)  # fmt: skip
async def test_what_is_not(store: FileStore, path: str, key: str, text: str) -> None:
    with pytest.raises(StoreError, match=text) as told:
        await store.read(path, key)
    assert "the key of the server" not in str(told.value)


async def test_of_the_credentials_of_systemd_only_those_for_jobs(tmp_path: Path) -> None:
    (tmp_path / f"{CREDENTIALS_PREFIX}TOKEN").write_text("value")
    (tmp_path / "TOKEN").write_text("the key of the server")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    found = _files(config.load(environ, state_dir=tmp_path))
    assert found is not None
    assert await found.read("TOKEN", "") == "value"
    with pytest.raises(StoreError, match="there is no file"):
        await found.read("../TOKEN".strip("./") + "2", "")
    named = _files(config.load(environ | {"GOCDNEXT_SECRET_FILES_DIR": str(tmp_path)}, state_dir=tmp_path))
    assert named == FileStore(tmp_path)
    assert _files(config.load({}, state_dir=tmp_path)) is None
