"""Logs of ended jobs are archived: read as before, once on two servers, and gone with their job."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from gocdnext.blobs.filesystem import FilesystemStore
from gocdnext.logs import archive, blocks, partitions
from gocdnext.logs.archived import Archives
from gocdnext.logs.archived_windows import archived_windows
from gocdnext.logs.log_text import log_text
from gocdnext.logs.windows import LogLine, windows
from gocdnext.sweepers import archiver
from tests.service.logs.conftest import Logs
from tests.service.logs.seed import Seeded, running_run

NOW = datetime.now(UTC)
LATER = NOW + timedelta(minutes=6)


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    return FilesystemStore(tmp_path / "blobs", min_free=0)


async def ended(logs: Logs, *counts: int, text: str = "line {seq}\tof\\n{seq}\\") -> Seeded:
    """A run whose jobs have so many lines and are over."""
    seeded = await running_run(logs.db, jobs=len(counts))
    await partitions.ensure(logs.db, NOW)
    for job, count in zip(seeded.job_ids, counts, strict=True):
        await logs.db.execute(
            "INSERT INTO log_lines SELECT $1, $2, n, n, $3::timestamptz + n * interval '1 us', 'stdout',"
            " replace($4, '{seq}', n::text) FROM generate_series(1, $5::bigint) n",
            job, seeded.run_id, NOW, text, count,
        )  # fmt: skip
    await logs.db.execute("UPDATE job_runs SET status = 'success', finished_at = $1", NOW)
    return seeded


async def whole(logs: Logs, store: FilesystemStore, job: UUID) -> bytes:
    return b"".join([piece async for piece in log_text(Archives(logs.db, store), job)])


async def put_away(logs: Logs, store: FilesystemStore, job: UUID) -> bool | None:
    return await archive.archive(logs.db, store, job, name=uuid4(), now=LATER)


@pytest.mark.parametrize("text", ["", "plain", "\\", "a\\\\tb\\", "\t\n\r\x85\u2028", "\\n", "ünï", "\\\\\n\\t"])
def test_a_line_comes_back_as_it_was(text: str) -> None:
    lines = [LogLine(seq, "stderr", NOW, text * seq) for seq in (1, 2)]
    assert list(map(blocks.line, blocks.unpacked(blocks.packed(lines)))) == lines


def test_a_damaged_block_is_told() -> None:
    block = blocks.packed([LogLine(1, "stdout", NOW, "x")])
    for damaged in (b"", block[:-3], b"x" + block, gzip.compress(b"1\t2\n")):
        with pytest.raises(blocks.DamagedError):
            [blocks.line(written) for written in blocks.unpacked(damaged or b"nothing")]


async def test_windows_and_text_are_the_same_before_and_after(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 4500, 3)
    many, few = seeded.job_ids
    wishes = [
        {"tail": 3, "head": 2}, {"tail": 2000, "head": 2000}, {"tail": 5}, {"tail": 4, "since": {many: 0}},
        {"tail": 10, "since": {many: 1995}}, {"tail": 2000, "since": {many: 3999}}, {"tail": 9, "since": {many: 9999}},
    ]  # fmt: skip
    before = [await windows(logs.db, [many, few], **wish) for wish in wishes]  # type: ignore[arg-type]
    text = await whole(logs, store, many)
    assert await archive.candidates(logs.db, True, NOW + timedelta(minutes=4)) == []
    assert sorted(await archive.candidates(logs.db, True, LATER)) == sorted([many, few])
    for job in (many, few):
        assert await put_away(logs, store, job) is True
        assert await put_away(logs, store, job) is None, "it is done"
    assert await logs.db.fetchval("SELECT count(*) FROM log_lines") == 0
    after = [await archived_windows(Archives(logs.db, store), [many, few], **wish) for wish in wishes]  # type: ignore[arg-type]
    assert [{job: (list(w.tail), list(w.head), w.total) for job, w in each.items()} for each in after] == [
        {job: (list(w.tail), list(w.head), w.total) for job, w in each.items()} for each in before
    ]
    assert await whole(logs, store, many) == text
    assert await archive.candidates(logs.db, True, LATER) == []


async def test_the_blob_is_one_gzip_file_of_lines(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 2500)
    await put_away(logs, store, seeded.job_ids[0])
    key = await logs.db.fetchval("SELECT storage_key FROM log_archives")
    async with store.open(key) as blob:
        assert blob is not None
        data = b"".join([piece async for piece in blob.pieces(0, blob.size)])
    lines = gzip.decompress(data).decode().split("\n")
    assert len(lines) == 2501
    assert lines[1].split("\t")[0::2] == ["2", "stdout"]
    assert lines[1].split("\t")[3] == r"line 2\tof\\n2\\"


async def test_a_window_reads_one_block(logs: Logs, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = await ended(logs, 9000)
    await put_away(logs, store, seeded.job_ids[0])
    (found,) = (await Archives(logs.db, store).find(list(seeded.job_ids))).values()
    read: list[int] = []
    unpacked = blocks.unpacked

    def counted(block: bytes) -> list[str]:
        read.append(len(block))
        return unpacked(block)

    monkeypatch.setattr(blocks, "unpacked", counted)
    window = await found.window(tail=200, head=0, since=5100)
    assert [line.seq for line in window.tail] == list(range(5101, 5301))
    assert len(read) == 1
    # Whoever reads on finds the block in memory.
    window = await found.window(tail=200, head=0, since=5300)
    assert [line.seq for line in window.tail] == list(range(5301, 5501))
    assert len(read) == 1


async def test_long_lines_make_short_blocks(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 40, text="x" * 100_000)
    await put_away(logs, store, seeded.job_ids[0])
    assert len(await logs.db.fetchval("SELECT block_seqs FROM log_archives")) == 4


async def test_two_servers_archive_once(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 3000)
    results: list[bool | None] = []

    async def server() -> None:
        results.append(await put_away(logs, store, seeded.job_ids[0]))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(server)
    assert sorted(map(str, results)) == ["None", "None", "None", "True"]
    assert [blob.key async for page in store.pages("logs") for blob in page] == [
        await logs.db.fetchval("SELECT storage_key FROM log_archives")
    ]


async def test_a_log_without_lines_is_looked_at_once(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 0)
    assert await put_away(logs, store, seeded.job_ids[0]) is False
    assert await archive.candidates(logs.db, True, LATER) == []
    assert [page async for page in store.pages("logs")] == []


async def test_a_job_that_goes_on_meanwhile_keeps_its_lines(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 10)
    (job,) = seeded.job_ids

    class Repeated(FilesystemStore):
        async def put(self, key, pieces, **more):  # type: ignore[no-untyped-def]
            stored = await super().put(key, pieces, **more)
            await logs.db.execute("UPDATE job_runs SET attempt = 1, status = 'queued'")
            return stored

    assert await put_away(logs, Repeated(store._root, min_free=0), job) is None
    assert await logs.db.fetchval("SELECT count(*) FROM log_lines") == 10
    assert [page async for page in store.pages("logs")] == []


async def test_a_disk_that_is_full_leaves_the_lines(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 10)

    class Full(FilesystemStore):
        async def put(self, key, pieces, **more):  # type: ignore[no-untyped-def]
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        await put_away(logs, Full(store._root, min_free=0), seeded.job_ids[0])
    assert await logs.db.fetchval("SELECT count(*) FROM log_lines") == 10
    assert await archive.candidates(logs.db, True, LATER) == [seeded.job_ids[0]]


async def test_who_is_archived(logs: Logs) -> None:
    seeded = await ended(logs, 1)
    for flag, default, expected in ((None, True, 1), (None, False, 0), (True, False, 1), (False, True, 0)):
        await logs.db.execute("UPDATE projects SET log_archive_enabled = $1", flag)
        assert len(await archive.candidates(logs.db, default, LATER)) == expected
    await logs.db.execute("UPDATE projects SET log_archive_enabled = NULL")
    await logs.db.execute("UPDATE job_runs SET status = 'running'")
    assert await archive.candidates(logs.db, True, LATER) == [], seeded


async def test_a_project_that_is_deleted_buries_its_archives(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 5)
    await put_away(logs, store, seeded.job_ids[0])
    key = await logs.db.fetchval("SELECT storage_key FROM log_archives")
    await logs.db.execute("DELETE FROM job_runs")
    assert [row["storage_key"] for row in await logs.db.fetch("SELECT storage_key FROM dead_blobs")] == [key]


async def test_an_archive_that_is_gone_is_an_empty_window(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 5)
    (job,) = seeded.job_ids
    await put_away(logs, store, job)
    await store.delete([await logs.db.fetchval("SELECT storage_key FROM log_archives")])
    assert (await archived_windows(Archives(logs.db, store), [job], tail=5))[job].total == 0


async def test_a_text_that_is_archived_while_it_is_read(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 2500)
    (job,) = seeded.job_ids
    expected = await whole(logs, store, job)
    pieces: AsyncIterator[bytes] = log_text(Archives(logs.db, store), job)
    read = [await anext(pieces)]
    await put_away(logs, store, job)
    read += [piece async for piece in pieces]
    assert b"".join(read) == expected


async def test_partitions_are_dropped_when_their_time_is_over(logs: Logs) -> None:
    begin = datetime(2025, 1, 15, tzinfo=UTC)
    await partitions.ensure(logs.db, begin, 4)
    drop = partitions.drop
    assert await drop(logs.db, datetime(2025, 1, 31, 23, 59, tzinfo=UTC)) == 0
    assert await drop(logs.db, datetime(2025, 3, 1, tzinfo=UTC)) == 2
    assert await drop(logs.db, datetime(2025, 3, 1, tzinfo=UTC)) == 0
    names = await logs.db.fetch(
        "SELECT inhrelid::regclass::text AS n FROM pg_inherits WHERE inhparent = 'log_lines'::regclass"
    )
    assert {"log_lines_202503", "log_lines_202504", "log_lines_other"} <= {row["n"] for row in names}


async def test_a_pass_goes_on_after_a_log_that_cannot_be_archived(logs: Logs, store: FilesystemStore) -> None:
    seeded = await ended(logs, 2, 2)
    bad = seeded.job_ids[0]

    class Sick(FilesystemStore):
        async def put(self, key, pieces, **more):  # type: ignore[no-untyped-def]
            if str(bad) in key:
                raise OSError("no room")
            return await super().put(key, pieces, **more)

    done = await archiver.once(logs.db, Sick(store._root, min_free=0), LATER, uuid4)
    assert done == {"ArchivesReSubmitted": 1, "ArchiveFailures": 1}
    assert await archiver.once(logs.db, store, LATER, uuid4) == {"ArchivesReSubmitted": 1}
