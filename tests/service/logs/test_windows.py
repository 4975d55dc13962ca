"""Windows of the run detail, whole logs and partitions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from gocdnext.blobs.filesystem import FilesystemStore
from gocdnext.logs import partitions
from gocdnext.logs.archived import Archives
from gocdnext.logs.log_text import log_text
from gocdnext.logs.windows import Window, windows
from tests.service.logs.conftest import Logs
from tests.service.logs.seed import Seeded, running_run


async def filled(logs: Logs, *counts: int) -> Seeded:
    seeded = await running_run(logs.db, jobs=len(counts))
    async with logs.writer(seeded.agent_id) as writer:
        for job, count in enumerate(counts):
            for seq in range(1, count + 1):
                writer.add(seeded.target(job), seq, f"job {job} line {seq}")
        await writer.flush()
    return seeded


def seqs(window: Window) -> tuple[list[int], list[int], int, int]:
    return [line.seq for line in window.head], [line.seq for line in window.tail], window.omitted, window.total


async def test_windows_of_many_jobs(logs: Logs) -> None:
    seeded = await filled(logs, 10, 4, 0, 10)
    many, few, none, followed = seeded.job_ids
    found = await windows(logs.db, seeded.job_ids, tail=3, head=2, since={followed: 4})
    assert seqs(found[many]) == ([1, 2], [8, 9, 10], 5, 10)
    assert seqs(found[few]) == ([1], [2, 3, 4], 0, 4)
    assert seqs(found[none]) == ([], [], 0, 0)
    # A reader far behind catches up in steps, oldest first.
    assert seqs(found[followed])[:2] == ([], [5, 6, 7])
    assert found[many].tail[-1].text == "job 0 line 10"
    assert found[many].tail[-1].stream == "stdout"


async def test_windows_without_a_head_or_a_tail(logs: Logs) -> None:
    seeded = await filled(logs, 5)
    (job,) = seeded.job_ids
    assert seqs((await windows(logs.db, [job], tail=2))[job]) == ([], [4, 5], 3, 5)
    assert seqs((await windows(logs.db, [job], tail=0, head=2))[job]) == ([1, 2], [], 3, 5)
    assert await windows(logs.db, [], tail=2) == {}


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 2001])
async def test_a_whole_log_as_text(logs: Logs, tmp_path: Path, count: int) -> None:
    seeded = await filled(logs, count, 2)
    archives = Archives(logs.db, FilesystemStore(tmp_path / "blobs", min_free=0))
    pieces = [piece async for piece in log_text(archives, seeded.job_ids[0])]
    assert b"".join(pieces).decode() == "".join(f"job 0 line {seq}\n" for seq in range(1, count + 1))
    assert [piece async for piece in log_text(archives, uuid4())] == []


async def test_partitions_are_made_once(logs: Logs) -> None:
    later = datetime(2031, 12, 31, 23, tzinfo=UTC)
    assert await partitions.ensure(logs.db, later) == 3
    assert await partitions.ensure(logs.db, later) == 0
