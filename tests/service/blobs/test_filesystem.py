"""The store of files: whole or not at all, bounded, and nothing left behind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from gocdnext.blobs.filesystem import FilesystemStore, StoreError
from gocdnext.blobs.store import Listed, Stored
from gocdnext.errors import NoRoomError, TooLargeError

KEY = "run/1/job/2/3"
WHOLE_DISK = 2**62


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    return FilesystemStore(tmp_path / "blobs", min_free=0)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def content(store: FilesystemStore, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
    async with store.open(key) as blob:
        if blob is None:
            return None
        return b"".join([piece async for piece in blob.pieces(start, blob.size if stop is None else stop)])


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_goes_in_comes_out(store: FilesystemStore, tmp_path: Path) -> None:
    parts = [os.urandom(700_000) for _ in range(5)]
    whole = b"".join(parts)
    assert await store.put(KEY, pieces(*parts)) == Stored(len(whole), hashlib.sha256(whole).hexdigest())
    assert await content(store, KEY) == whole
    assert await content(store, KEY, 699_999, 2_100_001) == whole[699_999:2_100_001]
    assert await store.sizes([KEY, "run/1/job/2/4"]) == {KEY: len(whole)}
    assert files(tmp_path) == [tmp_path / "blobs" / KEY]
    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0
    assert (tmp_path / "blobs" / KEY).stat().st_mode & 0o777 == 0o600


async def test_an_empty_blob_and_one_in_place_of_another(store: FilesystemStore) -> None:
    assert (await store.put(KEY, pieces())).size == 0
    assert await content(store, KEY) == b""
    await store.put(KEY, pieces(b"new"))
    assert await content(store, KEY) == b"new"


async def test_what_is_open_stays_readable_when_it_is_deleted(store: FilesystemStore) -> None:
    await store.put(KEY, pieces(b"x" * 10))
    async with store.open(KEY) as blob:
        assert blob is not None
        assert await store.delete([KEY]) == [KEY]
        assert b"".join([piece async for piece in blob.pieces(0, 10)]) == b"x" * 10
    assert await content(store, KEY) is None


async def test_deleting_takes_empty_folders_along_and_what_was_never_there(
    store: FilesystemStore, tmp_path: Path
) -> None:
    await store.put(KEY, pieces(b"1"))
    await store.put("run/1/job/9/1", pieces(b"2"))
    assert await store.delete([KEY, "cache/x"]) == [KEY, "cache/x"]
    assert not (tmp_path / "blobs/run/1/job/2").exists()
    assert await content(store, "run/1/job/9/1") == b"2"
    await store.delete(["run/1/job/9/1"])
    assert not (tmp_path / "blobs/run").exists()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../x",
        "run/../../x",
        "run/./x",
        "run//x",
        "run/x/",
        ".incoming/x",
        "a\0b",
        "a b",
        "ü",
        "a\n",
        "x" * 513,
    ],
)
async def test_keys_that_lead_elsewhere(store: FilesystemStore, tmp_path: Path, key: str) -> None:
    for work in (store.put(key, pieces(b"x")), store.sizes([key]), store.delete([key]), content(store, key)):
        with pytest.raises(ValueError, match="not a storage key"):
            await work
    assert files(tmp_path) == []


async def test_links_are_not_followed(store: FilesystemStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "blobs" / "cache").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        await content(store, "cache")


@pytest.mark.parametrize("announced", [0, 11])
async def test_too_much(store: FilesystemStore, tmp_path: Path, announced: int) -> None:
    with pytest.raises(TooLargeError, match="exceeds max size"):
        await store.put(KEY, pieces(b"x" * 6, b"x" * 5), expected=announced, limit=10)
    assert files(tmp_path) == []
    assert (await store.put(KEY, pieces(b"x" * 10), limit=10)).size == 10


@pytest.mark.parametrize("announced", [0, 100])
async def test_a_disk_that_is_nearly_full(tmp_path: Path, announced: int) -> None:
    store = FilesystemStore(tmp_path / "blobs", min_free=WHOLE_DISK)
    with pytest.raises(NoRoomError, match="GOCDNEXT_ARTIFACTS_MIN_FREE_MB"):
        await store.put(KEY, pieces(b"x"), expected=announced)
    assert files(tmp_path) == []


async def test_what_was_announced_must_fit_before_it_comes(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    store = FilesystemStore(tmp_path / "blobs", min_free=1)
    asked = False

    async def more() -> AsyncIterator[bytes]:
        nonlocal asked
        asked = True
        yield b"x"

    with pytest.raises(NoRoomError):
        await store.put(KEY, more(), expected=2 * free)
    assert not asked


async def test_an_upload_that_breaks_off_leaves_nothing(store: FilesystemStore, tmp_path: Path) -> None:
    begun = trio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"x" * 100
        begun.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: store.put(KEY, stuck()))
        await begun.wait()
        assert len(files(tmp_path)) == 1
        nursery.cancel_scope.cancel()
    assert files(tmp_path) == []

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise EOFError

    with pytest.raises(EOFError):
        await store.put(KEY, broken())
    assert files(tmp_path) == []


async def test_what_a_killed_server_left_is_cleaned_up_and_nothing_else(store: FilesystemStore, tmp_path: Path) -> None:
    await store.put(KEY, pieces(b"kept"))
    old, new = (tmp_path / "blobs/.incoming" / name for name in ("old", "new"))
    for left in (old, new):
        left.write_bytes(b"half")
    long_ago = (datetime.now(UTC) - timedelta(days=1)).timestamp()
    os.utime(old, (long_ago, long_ago))
    os.utime(tmp_path / "blobs" / KEY, (long_ago, long_ago))
    assert await store.clean(datetime.now(UTC) - timedelta(hours=1)) == 1
    assert not old.exists()
    assert new.exists()
    assert await content(store, KEY) == b"kept"
    assert (tmp_path / "blobs/.incoming").is_dir()


async def test_listing(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gocdnext.blobs.filesystem.PAGE", 3)
    keys = [f"run/{number}/x" for number in range(7)]
    for key in [*keys, "cache/y"]:
        await store.put(key, pieces(b"x"))
    listed: list[list[Listed]] = [page async for page in store.pages("run")]
    assert [len(page) for page in listed] == [3, 3, 1]
    assert sorted(blob.key for page in listed for blob in page) == keys
    assert [page async for page in store.pages("nothing")] == []


async def test_many_uploads_while_neighbours_are_deleted(store: FilesystemStore) -> None:
    """A folder that goes with its last blob must not take the next one along."""

    async def come_and_go(number: int) -> None:
        for turn in range(10):
            key = f"run/same/job/{number}-{turn}"
            await store.put(key, pieces(b"x"))
            assert await store.delete([key]) == [key]

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(come_and_go, number)


def test_a_folder_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="GOCDNEXT_ARTIFACTS_FS_ROOT"):
        FilesystemStore(tmp_path / "file" / "blobs", min_free=0)
