"""`bundle verify` against archives as they are made, and as they must not be."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
ROOT = "gocdnext-0.1.0-linux-x86_64/"
CONTENT = {"gocdnext": b"#!/usr/bin/env python3\n" * 5000, "docs/operations.md": b"# Operations\n"}


def sums(content: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in content.items()).encode()


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, link
    return made


def archive(path: Path, files: list[tuple[str, bytes]], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files:
            tar.addfile(entry(name, size=len(data)), io.BytesIO(data))
        for each in more:
            tar.addfile(each)
    return path


def good(path: Path, *more: tarfile.TarInfo, listed: dict[str, bytes] | None = None) -> Path:
    files = [(f"{ROOT}SHA256SUMS", sums(CONTENT if listed is None else listed))]
    return archive(path, [*files, *((ROOT + name, data) for name, data in CONTENT.items())], *more)


def test_a_whole_archive(call: Call, tmp_path: Path) -> None:
    path = good(tmp_path / "a.tar.gz")
    found = call("bundle", "verify", str(path))
    assert (found.code, "gocdnext 0.1.0 for x86_64, 2 files" in found.out) == (0, True), found
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert call("bundle", "verify", str(path), "--sha256", checksum).code == 0
    other = call("bundle", "verify", str(path), "--sha256", "0" * 64)
    assert (other.code, checksum in other.err) == (1, True)
    assert call("bundle", "verify", str(path), "--sha256", "abc").code == 2
    assert call("bundle", "verify", str(tmp_path / "none")).code == 3


LINK = entry(f"{ROOT}docs/link", tarfile.SYMTYPE, link="/etc/passwd")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (entry(f"{ROOT}extra"), "is not in SHA256SUMS"),
        (entry(f"{ROOT}gocdnext"), "stands in it twice"),
        (entry(f"{ROOT}../../etc/cron.d/x"), "outside of its folder"),
        (entry("/etc/passwd"), "outside of its folder"),
        (entry("elsewhere/gocdnext"), "outside of its folder"),
        (entry(f"{ROOT}a\nb"), "outside of its folder"),
        (LINK, "is a link"),
        (entry(f"{ROOT}hard", tarfile.LNKTYPE, link="gocdnext"), "is a link"),
        (entry(f"{ROOT}null", tarfile.CHRTYPE), "is a link"),
    ],
)
def test_what_does_not_belong_there(call: Call, tmp_path: Path, more: tarfile.TarInfo, words: str) -> None:
    found = call("bundle", "verify", str(good(tmp_path / "a.tar.gz", more)))
    assert (found.code, words in found.err) == (1, True), found.err


def test_a_file_that_is_missing_or_changed(call: Call, tmp_path: Path) -> None:
    missing = good(tmp_path / "a.tar.gz", listed={**CONTENT, "plugins/kit.py": b""})
    assert "1 files are missing, plugins/kit.py" in call("bundle", "verify", str(missing)).err
    changed = good(tmp_path / "b.tar.gz", listed={**CONTENT, "gocdnext": b"other"})
    assert "gocdnext is not what was packed" in call("bundle", "verify", str(changed)).err


@pytest.mark.parametrize("kept", [0, 5, 200, -1, -8])
def test_a_truncated_archive(call: Call, tmp_path: Path, kept: int) -> None:
    path = good(tmp_path / "a.tar.gz")
    path.write_bytes(path.read_bytes()[:kept])
    found = call("bundle", "verify", str(path))
    assert (found.code, "Traceback" in found.err) == (1, False), found.err


def test_a_flipped_bit(call: Call, tmp_path: Path) -> None:
    path = good(tmp_path / "a.tar.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert call("bundle", "verify", str(path)).code == 1


def test_something_else(call: Call, tmp_path: Path) -> None:
    foreign = archive(tmp_path / "a.tar.gz", [("other-1.0/SHA256SUMS", sums(CONTENT))])
    without = archive(tmp_path / "b.tar.gz", [(ROOT + "gocdnext", CONTENT["gocdnext"])])
    empty = archive(tmp_path / "c.tar.gz", [])
    for path in (foreign, without, empty):
        found = call("bundle", "verify", str(path))
        assert (found.code, "it is no archive of gocdnext" in found.err) == (1, True), found.err
    nonsense = archive(tmp_path / "d.tar.gz", [(f"{ROOT}SHA256SUMS", b"hello\n")])
    assert "its SHA256SUMS cannot be read" in call("bundle", "verify", str(nonsense)).err
    text = tmp_path / "e"
    text.write_bytes(gzip.compress(b"hello"))
    assert call("bundle", "verify", str(text)).code == 1
