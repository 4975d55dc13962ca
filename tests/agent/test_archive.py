"""Archives: what goes in comes out; what leads out, is no file, or is too much, does not."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import os
import socket
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gocdnext.agent.archive import LIMITS, ArchiveError, Limits, Packed, Unpacked, pack, unpack
from gocdnext.agent.disk import DiskFullError
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.found import FoundError, Selection, select
from gocdnext.agent.gzipped import BLOCK


def packed(root: Path, *paths: str, limits: Limits = LIMITS) -> tuple[Packed, bytes]:
    """The archive of some declared paths, and its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "archive")
        done = pack(str(root), [select(str(root), path) for path in paths], target, limits=limits)
        return done, Path(target).read_bytes()


def unpacked(data: bytes, root: Path, dest: str = "", **options: Any) -> Unpacked:
    return unpack(io.BytesIO(data), str(root), dest, **options)


def tar(*entries: tarfile.TarInfo | tuple[str, bytes], **changes: Any) -> bytes:
    """A tar.gz made by hand: entries, or names with contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", **changes) as file:
        for entry in entries:
            info, content = (
                (entry, b"") if isinstance(entry, tarfile.TarInfo) else (tarfile.TarInfo(entry[0]), entry[1])
            )
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def entry(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def tree(root: Path) -> dict[str, Any]:
    """Everything below a directory: contents with modes, targets of links, None for directories."""
    found: dict[str, Any] = {}
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[os.path.relpath(path, root)] = os.readlink(path)
            else:
                content = None if stat.S_ISDIR(mode) else (Path(path).read_bytes(), stat.S_IMODE(mode))
                found[os.path.relpath(path, root)] = content
    return found


# -- round trips


def _encodable(name: str) -> bool:
    try:
        return len(os.fsencode(name)) <= 255
    except UnicodeEncodeError:
        return False


ODD_NAMES = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.binary(min_size=1, max_size=120).map(os.fsdecode),
).filter(lambda name: name not in {".", ".."} and "/" not in name and "\0" not in name and _encodable(name))
CONTENTS = st.one_of(st.binary(max_size=2000), st.integers(0, 3 * BLOCK).map(lambda size: b"ab" * (size // 2)))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.lists(ODD_NAMES, min_size=1, max_size=4).map(tuple),
        st.one_of(CONTENTS, st.none(), ODD_NAMES.filter(lambda target: not target.startswith("/"))),
        max_size=8,
    ),
    st.sampled_from([0o644, 0o755, 0o600, 0o400]),
)
def test_what_goes_in_comes_out(content: dict[tuple[str, ...], bytes | str | None], mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        (source / "top").mkdir(parents=True)
        target.mkdir()
        for parts, what in content.items():
            path = source.joinpath("top", *parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if what is None:
                    path.mkdir()
                elif isinstance(what, bytes):
                    path.write_bytes(what)
                    path.chmod(mode)
                else:
                    path.symlink_to(what)
            except (FileExistsError, NotADirectoryError, IsADirectoryError, FileNotFoundError):
                continue  # a file where another example path needs a directory
        done, data = packed(source, "top")
        assert unpacked(data, target).entries == done.entries
        assert tree(target) == (tree(source) if done.entries else {})


def test_the_same_content_gives_the_same_bytes_also_after_a_round_trip(tmp_path: Path) -> None:
    (tmp_path / "a" / "dist" / "sub").mkdir(parents=True)
    (tmp_path / "a" / "dist" / "sub" / "file").write_text("content")
    (tmp_path / "b").mkdir()
    first, data = packed(tmp_path / "a", "dist")
    unpacked(data, tmp_path / "b")
    assert packed(tmp_path / "b", "dist")[0] == first


def test_other_programs_read_it(tmp_path: Path) -> None:
    (tmp_path / "dist" / ("d" * 120)).mkdir(parents=True)
    (tmp_path / "dist" / ("d" * 120) / ("f" * 120)).write_bytes(os.urandom(3 * BLOCK) + b"x" * BLOCK)
    (tmp_path / "dist" / "run").write_text("#!/bin/sh")
    (tmp_path / "dist" / "run").chmod(0o755)
    _, data = packed(tmp_path, "dist")
    (tmp_path / "archive").write_bytes(data)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xzf", "../archive"], cwd=tmp_path / "out", check=True, timeout=30)
    assert tree(tmp_path / "out" / "dist") == tree(tmp_path / "dist")
    assert len(gzip.decompress(data)) > 4 * BLOCK


def test_what_cannot_be_compressed_is_hardly_larger_and_the_rest_much_smaller(tmp_path: Path) -> None:
    (tmp_path / "dense").write_bytes(os.urandom(4 * BLOCK))
    (tmp_path / "text").write_bytes(b"hello world\n" * (BLOCK // 3))
    assert packed(tmp_path, "dense")[0].size < 4.02 * BLOCK
    assert packed(tmp_path, "text")[0].size < BLOCK // 20


def test_names_of_entries(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("x")
    (tmp_path / "a" / "d").write_text("x")

    def names(*paths: str) -> list[str]:
        with tarfile.open(fileobj=io.BytesIO(packed(tmp_path, *paths)[1])) as file:
            return file.getnames()

    assert names("a") == ["a/b", "a/d", "a/b/c"]
    assert names("./a//b/") == ["a/b/c"]
    assert names("a/b/c") == ["a/b/c"]
    assert names(".") == ["a", "a/b", "a/d", "a/b/c"]
    assert names("a/*") == ["a/d"]
    assert names("**") == ["a/b/c", "a/d"]
    assert names() == []


def test_modes_and_owners(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    path.chmod(0o6755)
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path, "file")[1])) as file:
        (info,) = file.getmembers()
    assert (info.mode, info.uid, info.gid, info.uname) == (0o755, 0, 0, "")
    zero = tarfile.TarInfo("zero")
    zero.mode = 0
    setuid = tarfile.TarInfo("setuid")
    setuid.mode = 0o4711
    target = tmp_path / "out"
    target.mkdir()
    unpacked(tar(zero, setuid), target)
    assert stat.S_IMODE((target / "zero").stat().st_mode) == 0o644
    assert stat.S_IMODE((target / "setuid").stat().st_mode) == 0o711


# -- packing what a job left


def test_links_are_stored_as_links_and_never_followed_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the machine")
    root = tmp_path / "job"
    (root / "dist").mkdir(parents=True)
    (root / "dist" / "inside").symlink_to("../real")
    (root / "dist" / "absolute").symlink_to("/etc/passwd")
    (root / "dist" / "out").symlink_to("../../secret")
    (root / "dist" / "folder").symlink_to("/etc")
    done, data = packed(root, "dist")
    assert done.skipped == ("dist/out is a link that leads out, to ../../secret; skipped",)
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        assert {info.name: info.linkname for info in file} == {
            "dist/inside": "../real",
            "dist/absolute": "/etc/passwd",
            "dist/folder": "/etc",
        }


@pytest.mark.parametrize("path", ["link", "link/below", "folder/secret", "folder"])
def test_a_declared_path_through_a_link_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "outside" / "below").mkdir(parents=True)
    (tmp_path / "outside" / "secret").write_text("x")
    root = tmp_path / "job"
    root.mkdir()
    (root / "link").symlink_to("../outside")
    (root / "folder").symlink_to(tmp_path / "outside")
    with pytest.raises(FoundError, match="leads out of the directory of the job"):
        packed(root, path)


def test_a_declared_path_that_is_a_link_inside_is_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "file").write_text("x")
    (tmp_path / "latest").symlink_to("v1")
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path, "latest")[1])) as file:
        assert [(info.name, info.isreg()) for info in file] == [("latest/file", True)]


def test_devices_fifos_and_sockets_are_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    os.mkfifo(folder / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    (folder / "file").write_text("x")
    expected = ["d/fifo is a fifo; skipped", "d/socket is a socket; skipped"]
    if os.geteuid() == 0:
        os.mknod(folder / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        expected.insert(1, "d/null is a device; skipped")
    done, _ = packed(tmp_path, "d")
    listener.close()
    assert list(done.skipped) == expected
    assert done.entries == 1
    assert packed(tmp_path, "d/fifo")[0].entries == 0


def test_what_is_gone_or_unreadable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="'gone' cannot be packed: No such file"):
        pack(str(tmp_path), [Selection(["gone"], pattern=True)], str(tmp_path / "archive"))


# -- unpacking what anybody may have made


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tar(("../x", b"")), "'../x' leads out"),
        (tar(("a/../../x", b"")), "leads out"),
        (tar(("/etc/x", b"")), "'/etc/x' leads out"),
        (tar(("..", b"")), "leads out"),
        (tar(entry("..", tarfile.DIRTYPE)), "leads out"),
        (tar(entry("x", tarfile.SYMTYPE, "../y")), "the link 'x' leads out, to '../y'"),
        (tar(entry("a/x", tarfile.SYMTYPE, "b/../../../y")), "leads out"),
        (tar(entry("out", tarfile.SYMTYPE, "/etc"), ("out/x", b"x")), "'out' is a link that leads out"),
        (tar(entry("out", tarfile.SYMTYPE, "/etc"), entry("out/x", tarfile.DIRTYPE)), "'out' is a link that leads out"),
        (tar(entry("out", tarfile.SYMTYPE, "/"), entry("out/etc/x", tarfile.SYMTYPE, "y")), "leads out"),
        (tar(("d/file", b""), ("d", b"")), "'d' is a directory here and none in the archive"),
        (tar(("file", b""), ("file/below", b"")), "Not a directory"),
        (tar(("./", b"")), "has no name"),
    ],
    ids=itertools.count(),
)
def test_entries_that_lead_out_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ArchiveError, match=message):
        unpacked(data, root)
    assert list(tmp_path.iterdir()) == [root]


def test_links_that_are_there_are_replaced_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").symlink_to(outside)
    (root / "hard").hardlink_to(outside)
    unpacked(tar(("file", b"new"), ("hard", b"new"), ("hard", b"newer")), root)
    assert outside.read_text() == "untouched"
    assert not (root / "file").is_symlink()
    assert (root / "hard").read_text() == "newer"


def test_a_directory_that_is_a_link_is_entered_when_it_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    unpacked(tar(("link/file", b"x")), tmp_path)
    assert (tmp_path / "real" / "file").read_text() == "x"


def test_the_destination_is_made_and_may_not_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    unpacked(tar(("x", b"1"), entry("empty", tarfile.DIRTYPE)), root, "deps/deep")
    assert (root / "deps" / "deep" / "x").read_text() == "1"
    assert stat.S_IMODE((root / "deps" / "deep" / "empty").stat().st_mode) == 0o755
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(ArchiveError, match="'out' is a link that leads out"):
        unpacked(tar(("x", b"1")), root, "out")


def test_other_kinds_of_entries_are_skipped(tmp_path: Path) -> None:
    data = tar(
        entry("fifo", tarfile.FIFOTYPE),
        entry("null", tarfile.CHRTYPE),
        entry("hard", tarfile.LNKTYPE, "/etc/passwd"),
        ("file", b"x"),
    )
    done = unpacked(data, tmp_path)
    assert done.skipped == ("fifo is a fifo; skipped", "null is a device; skipped", "hard is a hard link; skipped")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("cut", [1, 9, 100, 5000])
def test_a_truncated_archive_fails(tmp_path: Path, cut: int) -> None:
    data = tar(("file", os.urandom(20_000)))
    with pytest.raises(ArchiveError, match="ends too early"):
        unpacked(data[:-cut], tmp_path)


def test_damage_is_noticed(tmp_path: Path) -> None:
    data = bytearray(tar(("file", b"x" * 100_000)))
    data[-6] ^= 1  # the check sum
    with pytest.raises(ArchiveError, match="is damaged"):
        unpacked(bytes(data), tmp_path)
    with pytest.raises(ArchiveError, match="is no gzip"):
        unpacked(b"PK\3\4 something else", tmp_path)
    with pytest.raises(ArchiveError, match="cannot be read"):
        unpacked(gzip.compress(b"no tar" * 1000), tmp_path)


def test_an_empty_archive_and_a_tail_are_fine(tmp_path: Path) -> None:
    assert unpacked(tar(), tmp_path).entries == 0
    assert unpacked(tar(("a", b"1")) + b"a tail that nobody asked for", tmp_path).entries == 1
    two = gzip.compress(gzip.decompress(tar(("a", b"1")))[:512]) + gzip.compress(
        gzip.decompress(tar(("a", b"1")))[512:]
    )
    assert unpacked(two, tmp_path).entries == 1


# -- limits


def test_the_number_of_entries_is_bounded_both_ways(tmp_path: Path) -> None:
    few = Limits(entries=10)
    data = tar(*((f"d/{number}", b"") for number in range(11)))
    with pytest.raises(ArchiveError, match="more than 10 entries; that is the limit"):
        unpacked(data, tmp_path, limits=few)
    unpacked(data, tmp_path)
    with pytest.raises(ArchiveError, match="more than 10 entries"):
        packed(tmp_path, "d", limits=few)
    assert Limits().entries == 1_000_000


def test_bombs_are_bounded_by_size_and_by_ratio(tmp_path: Path) -> None:
    bomb = tar(("zeros", bytes(8 * 1024 * 1024)))
    with pytest.raises(ArchiveError, match="larger than 4 MiB; that is the limit"):
        unpacked(bomb, tmp_path, limits=Limits(unpacked=4 * 1024**2))
    with pytest.raises(ArchiveError, match="more than 50 times as large as the archive; that is the limit"):
        unpacked(bomb, tmp_path, limits=Limits(ratio=50, ratio_from=1024**2))
    assert (tmp_path / "zeros").stat().st_size < 8 * 1024 * 1024
    unpacked(bomb, tmp_path)
    with pytest.raises(ArchiveError, match="more than 50 times"):
        packed(tmp_path, "zeros", limits=Limits(ratio=50, ratio_from=1024**2))
    with pytest.raises(ArchiveError, match="the archive is larger than 1 KiB; that is the limit"):
        packed(tmp_path, "zeros", limits=Limits(packed=1024))


@pytest.mark.parametrize(
    "header",
    [
        tarfile.TarInfo.create_pax_global_header({"comment": "x" * 3_000_000}),
        b"".join(tarfile.TarInfo.create_pax_global_header({"comment": "x"}) for _ in range(2000)),
    ],
    ids=["long", "endless"],
)
def test_headers_are_bounded(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(ArchiveError, match="header"):
        unpacked(gzip.compress(header + gzip.decompress(tar(("file", b"x")))), tmp_path)


def test_sparse_entries_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with open(tmp_path / "in" / "sparse", "wb") as file:
        file.truncate(10**12)
    for kind in ("gnu", "pax"):
        archive = tmp_path / f"{kind}.tar.gz"
        command = ["tar", "-C", str(tmp_path / "in"), "-czSf", str(archive), f"--format={kind}", "sparse"]
        subprocess.run(command, check=True, timeout=30)
        with pytest.raises(ArchiveError, match="sparse"):
            unpacked(archive.read_bytes(), tmp_path)


class StoppedError(Exception):
    pass


def test_both_ways_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4 * BLOCK))
    _, data = packed(tmp_path, "file")

    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        pack(str(tmp_path), [select(str(tmp_path), "file")], str(tmp_path / "archive"), stop)
    with pytest.raises(StoppedError):
        unpack(io.BytesIO(data), str(tmp_path), "", stop)


def test_a_full_disk_is_told_from_other_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(os.urandom(2 * BLOCK))
    _, data = packed(tmp_path, "file")
    monkeypatch.setattr("gocdnext.agent.disk.RESERVE", 2**60)
    monkeypatch.setattr("gocdnext.agent.disk.PART", 1)
    message = "the disk of the agent's work root is full .* set GOCDNEXT_WORKSPACE_ROOT"
    with pytest.raises(DiskFullError, match=message):
        unpacked(data, tmp_path)
    with pytest.raises(DiskFullError, match=message):
        packed(tmp_path, "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a small disk of its own, which only root can mount")
def test_a_disk_that_really_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(os.urandom(8 * BLOCK))
    _, data = packed(tmp_path, "file")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=False, timeout=10)
    if mounted.returncode != 0:
        pytest.skip("this system lets nobody mount")
    try:
        monkeypatch.setattr("gocdnext.agent.disk.RESERVE", 0)
        with pytest.raises(ArchiveError, match="'file' cannot be unpacked: the disk of the agent's work root is full"):
            unpacked(data, small)
    finally:
        subprocess.run(["umount", str(small)], check=True, timeout=10)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.lists(st.tuples(st.integers(0, 6000), st.sampled_from(b"\0\xff/.7SgxLK\x80") | st.integers(0, 255)), max_size=6),
    st.booleans(),
)
def test_damaged_archives_give_our_error_and_touch_nothing_else(
    form: int, changes: list[tuple[int, int]], sums_are_right: bool
) -> None:
    header = tarfile.TarInfo("d/é")
    header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99"}
    made = tar(("a", b"x" * 700), ("n" * 200, b""), entry("l", tarfile.SYMTYPE, "a"), header, ("z", b"z"), format=form)
    data = bytearray(gzip.decompress(made))
    for at, byte in changes:
        data[at] = byte
    if sums_are_right:
        for at in range(0, len(data), 512):
            if any(data[at : at + 512]):
                data[at + 148 : at + 156] = b" " * 8
                data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        root.mkdir()
        with contextlib.suppress(DeliveryError):
            unpacked(gzip.compress(bytes(data), 1), root)
        assert os.listdir(folder) == ["root"]
