"""A reader that comes back finds lines that were archived meanwhile, in the order in which they came (contract-runs 3.4)."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import orjson
import pytest
import trio

from gocdnext.blobs.filesystem import FilesystemStore
from gocdnext.logs import archive, replay
from gocdnext.logs.archived import Archives
from gocdnext.logs.recent import Recent
from gocdnext.logs.stream import stream
from tests.service.logs.conftest import Logs
from tests.service.logs.seed import Seeded, finish_run, running_run
from tests.service.logs.test_stream import Reader

SAID_AT = int(datetime.now(UTC).timestamp() * 1_000_000)
"""So that a line that is sent again is the same line."""


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    return FilesystemStore(tmp_path / "blobs", min_free=0)


async def talk(logs: Logs, seeded: Seeded, *parts: tuple[int, int, int]) -> list[tuple[str, int]]:
    """The jobs say something one after the other: (job, first, last); what they said, in order."""
    said = []
    async with logs.writer(seeded.agent_id) as writer:
        for job, first, last in parts:
            for seq in range(first, last + 1):
                writer.add(seeded.target(job), seq, f"{job}:{seq}", at=SAID_AT + seq)
                said.append((str(seeded.job_ids[job]), seq))
            await writer.flush()
    return said


async def put_away(logs: Logs, store: FilesystemStore, job: UUID) -> None:
    assert await archive.archive(logs.db, store, job, name=uuid4(), now=datetime.now(UTC) + timedelta(minutes=6))


async def read(logs: Logs, store: FilesystemStore, run: UUID, last: int) -> tuple[list[int], list[tuple[str, int]]]:
    """The cursors and the lines that a reader gets who has all up to `last`."""
    archives = Archives(logs.db, store)
    pieces = stream(logs.hub, logs.db, run, last, logs.shutdown, archives)
    async with contextlib.aclosing(pieces):  # type: ignore[type-var]
        reader, cursors, lines = Reader(pieces), [], []
        while (frame := await reader.frame()).get("event") != "end":
            if "id" in frame:
                cursors.append(int(frame["id"]))
                data = orjson.loads(frame["data"])
                lines.append((data["job_id"], data["seq"]))
    return cursors, lines


@pytest.mark.parametrize("page", [3, 500])
@pytest.mark.parametrize("archived", [[0], [0, 1], [0, 1, 2]])
async def test_all_lines_in_their_order(
    logs: Logs, store: FilesystemStore, archived: list[int], page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_LINES", page)
    seeded = await running_run(logs.db, jobs=3)
    # The middle one sends some lines again, as after a broken connection.
    said = await talk(logs, seeded, (0, 1, 9), (1, 1, 4), (0, 10, 12), (2, 1, 7), (1, 5, 30), (0, 13, 13))
    await talk(logs, seeded, (0, 13, 13))
    said += await talk(logs, seeded, (2, 8, 9), (0, 14, 20))
    await finish_run(logs.db, seeded)
    before = await read(logs, store, seeded.run_id, 0)
    assert before[1] == said
    for job in archived:
        await put_away(logs, store, seeded.job_ids[job])
    for last in (0, 1, 13, 40, before[0][-2], before[0][-1], 10**9):
        cursors, lines = await read(logs, store, seeded.run_id, last)
        assert cursors == [cursor for cursor in before[0] if cursor > last]
        assert lines == said[len(said) - len(cursors) :]


async def test_what_is_archived_while_it_is_replayed(logs: Logs, store: FilesystemStore) -> None:
    seeded = await running_run(logs.db, jobs=2)
    said = await talk(logs, seeded, (0, 1, 1200), (1, 1, 1200), (0, 1201, 1300))
    await finish_run(logs.db, seeded)
    archives = Archives(logs.db, store)
    pieces = stream(logs.hub, logs.db, seeded.run_id, 0, logs.shutdown, archives)
    async with contextlib.aclosing(pieces):  # type: ignore[type-var]
        reader = Reader(pieces)
        found = [data["seq"] for _, data in await reader.lines(700)]
        for job in seeded.job_ids:
            await put_away(logs, store, job)
        found += [data["seq"] for _, data in await reader.lines(len(said) - 700)]
    assert found == [seq for _, seq in said]


async def test_an_archive_that_is_gone_hides_no_other(logs: Logs, store: FilesystemStore) -> None:
    seeded = await running_run(logs.db, jobs=2)
    await talk(logs, seeded, (0, 1, 5), (1, 1, 5))
    await finish_run(logs.db, seeded)
    for job in seeded.job_ids:
        await put_away(logs, store, job)
    key = await logs.db.fetchval("SELECT storage_key FROM log_archives WHERE job_run_id = $1", seeded.job_ids[0])
    await store.delete([key])
    with trio.fail_after(20):
        cursors, lines = await read(logs, store, seeded.run_id, 0)
    assert cursors == [6, 7, 8, 9, 10]
    assert {job for job, _ in lines} == {str(seeded.job_ids[1])}


async def test_an_archive_of_a_former_version_is_left_out(logs: Logs, store: FilesystemStore) -> None:
    seeded = await running_run(logs.db)
    await talk(logs, seeded, (0, 1, 5))
    await finish_run(logs.db, seeded)
    await put_away(logs, store, seeded.job_ids[0])
    await logs.db.execute("UPDATE log_archives SET cursors = '{}', cursor_lines = '{}'")
    assert await read(logs, store, seeded.run_id, 0) == ([], [])


def test_what_was_not_asked_for_longest_goes_first() -> None:
    kept: Recent[str, int] = Recent(10)
    kept.put("a", 1, 4)
    kept.put("b", 2, 4)
    assert kept.get("a") == 1
    kept.put("c", 3, 4)
    assert [kept.get(key) for key in "abc"] == [1, None, 3]
    kept.put("c", 4, 6)
    assert [kept.get(key) for key in "ac"] == [1, 4]
    kept.put("huge", 5, 11)
    assert [kept.get(key) for key in ("a", "c", "huge")] == [1, 4, None]
    nothing: Recent[str, int] = Recent(0)
    nothing.put("a", 1, 1)
    assert nothing.get("a") is None
