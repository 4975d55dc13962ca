"""The file of a backup: whole, cut off, damaged, somebody else's, hostile, of a later program, on a full disk."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from pathlib import Path

import msgspec
import pytest

from gocdnext.backup import archive, checking, sealing
from gocdnext.backup.archive import DATABASE, HEADER, KEYS, MANIFEST
from gocdnext.backup.errors import ArchiveError, NotEmptyError, PassphraseError
from gocdnext.db.errors import StateDirectoryError
from tests.service.backup.archives import BLOBS, HEAD, make, nothing, tar_of
from tests.service.db.test_full_disk import small_disk

PASSPHRASE = "correct horse battery"


def refusal(path: Path) -> str:
    with pytest.raises(ArchiveError) as caught:
        checking.check(path, nothing)
    return str(caught.value)


def test_any_tar_program_reads_it(tmp_path: Path) -> None:
    path = make(tmp_path / "a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as tar:
        assert tar.getnames() == [
            HEADER, DATABASE, "blobs/00000001.jsonl", *(f"blobs/{key}" for key in BLOBS), MANIFEST
        ]  # fmt: skip
        for key, content in BLOBS.items():
            file = tar.extractfile(f"blobs/{key}")
            assert file is not None
            assert file.read() == content
    checked = checking.check(path, nothing)
    assert (checked.header, checked.manifest.blobs, checked.size) == (HEAD, 2, path.stat().st_size - archive._BLOCK)


def test_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    """Between members and within them, the blocks of the end included: only the last one says nothing."""
    path = make(tmp_path / "a")
    content = path.read_bytes()
    for size in range(513, len(content) - 1024, 307):
        path.write_bytes(content[:size])
        assert "cut off" in refusal(path), size


def test_a_bit_that_has_turned_is_found(tmp_path: Path) -> None:
    path = make(tmp_path / "a")
    content = path.read_bytes()
    used = [at for at in range(0, len(content) - 1024, 97) if content[at]]
    for at in used:
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        said = refusal(path)
        assert "damaged" in said or "not an archive of gocdnext" in said or "cut off" in said, at


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", bytes(512), bytes(10240), b"not a backup" * 1000])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert "not an archive of gocdnext" in refusal(tmp_path / "a")


def test_a_directory_and_nothing_are_refused(tmp_path: Path) -> None:
    assert "cannot read" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        assert "a backup is a file" in refusal(tmp_path / "pipe")
    finally:
        os.close(descriptor)


def _link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        {"../../etc/cron.d/x": b"x"},
        {"/etc/passwd": b"x"},
        {"blobs/../../secrets.key": b"x"},
        {"blobs//etc/passwd": b"x"},
        {"blobs/.incoming/x": b"x"},
        {"blobs/run/a": _link("blobs/run/a", tarfile.SYMTYPE, "/etc/passwd")},
        {"database.dump": _link("database.dump", tarfile.LNKTYPE, "/etc/passwd")},
        {"keys.json": _link("keys.json", tarfile.CHRTYPE, "")},
        {"pg/18/PG_VERSION": b"18"},
        {"b" * 700: b"x"},
    ],
    ids=lambda members: next(iter(members))[:30],
)
def test_what_does_not_belong_in_one_is_refused(tmp_path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> None:
    assert "does not belong" in refusal(tar_of(tmp_path / "a", members))


def test_lists_and_members_in_the_wrong_place_are_refused(tmp_path: Path) -> None:
    line = msgspec.json.encode({"key": "../../x", "size": 1, "sha256": ""})
    assert "lists the blob" in refusal(tar_of(tmp_path / "a", {"blobs/00000001.jsonl": line}))
    assert "not on its list" in refusal(tar_of(tmp_path / "b", {"blobs/run/a": b"x"}))
    assert "no manifest" in refusal(tar_of(tmp_path / "c", {DATABASE: b"x"}))
    assert "cannot be read" in refusal(tar_of(tmp_path / "d", {DATABASE: b"x", MANIFEST: b"{}"}))
    with tarfile.open(tmp_path / "e", "w") as other:
        other.add(__file__, "home/ada/notes")
    assert "does not" in refusal(tmp_path / "e")


def test_a_later_program_is_named(tmp_path: Path) -> None:
    assert "format 2 and this program knows formats up to 1" in refusal(make(tmp_path / "a", format=2))
    said = refusal(make(tmp_path / "b", schema=9999, version="7.0.0"))
    assert "schema version 9999" in said
    assert "gocdnext 7.0.0 wrote it" in said
    later = msgspec.json.encode({"format": 3, "something": "else"})
    assert "format 3" in refusal(tar_of(tmp_path / "c", {}, header=later))


def test_nothing_is_replaced_and_nothing_half_is_left(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(NotEmptyError, match="is there already"):
        make(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "mine"
    with pytest.raises(NotEmptyError, match="another backup"), archive.writing(tmp_path / "b"):
        make(tmp_path / "b")
    with pytest.raises(StateDirectoryError, match="no directory"):
        make(tmp_path / "none" / "c")
    assert os.listdir(tmp_path) == ["a"]
    # What a backup that was killed has left does not stand in the way.
    (tmp_path / ".b.part").write_bytes(b"half" * 10_000)
    checking.check(make(tmp_path / "b"), nothing)


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    with small_disk(tmp_path, 2**20) as disk:
        with pytest.raises(StateDirectoryError, match=r"no space left .* Nothing is left of the backup"):
            make(disk / "a", dump=os.urandom(2 * 2**20))
        assert os.listdir(disk) == []
        # Little is noticed as well.
        with (disk / "filler").open("wb") as filler:
            filler.write(bytes(2**20 - 4096))
        with pytest.raises(StateDirectoryError, match="no space left"):
            make(disk / "a")
        assert os.listdir(disk) == ["filler"]


def test_keys_open_with_their_passphrase_in_their_archive_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "COST", 2**14)
    keys = {"secrets": b"s" * 32, "secrets-0123456789abcdef": b"o" * 32, "operator-token": b"t" * 32}
    document = sealing.seal(keys, PASSPHRASE, b"this archive")
    assert b"s" * 32 not in document
    assert sealing.unseal(document, PASSPHRASE, b"this archive") == keys
    for passphrase, bound_to in (("correct horse batterY", b"this archive"), (PASSPHRASE, b"another archive")):
        with pytest.raises(PassphraseError, match="do not open"):
            sealing.unseal(document, passphrase, bound_to)
    costly = msgspec.json.decode(document) | {"n": 2**40}
    with pytest.raises(ArchiveError, match="in another way"):
        sealing.unseal(msgspec.json.encode(costly), PASSPHRASE, b"this archive")
    with pytest.raises(ArchiveError, match="cannot be read"):
        sealing.unseal(b"[]", PASSPHRASE, b"this archive")
    hostile = sealing.seal({"../../etc/x": b"x" * 32}, PASSPHRASE, b"this archive")
    with pytest.raises(ArchiveError, match="keys that no server has"):
        sealing.unseal(hostile, PASSPHRASE, b"this archive")
    with pytest.raises(PassphraseError, match="at least 12"):
        sealing.require_good("too short")


def test_keys_are_bound_to_the_archive_they_lie_in(tmp_path: Path) -> None:
    """A keys member that came from elsewhere is noticed by the manifest already."""
    path = make(tmp_path / "a")
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    (tmp_path / "out" / KEYS).write_bytes(b"{}")
    names = [HEADER, DATABASE, KEYS, "blobs/00000001.jsonl", *(f"blobs/{key}" for key in BLOBS), MANIFEST]
    content = {name: (tmp_path / "out" / name).read_bytes() for name in names}
    assert "damaged" in refusal(tar_of(tmp_path / "b", content))
    shutil.rmtree(tmp_path / "out")
