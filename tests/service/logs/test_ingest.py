"""Taking in log lines, against a real database."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
import trio

from gocdnext.db.pool import Database
from gocdnext.logs import frames
from gocdnext.logs.batches import TEXT_CHARS, Columns
from gocdnext.logs.ingest import BUFFER_LINES, Target
from tests.service.logs.conftest import Logs
from tests.service.logs.seed import Seeded, running_run


async def stored(db: Database, seeded: Seeded) -> list[Any]:
    return await db.fetch(
        "SELECT cursor, job_run_id, seq, at, stream, text FROM log_lines WHERE run_id = $1 ORDER BY cursor",
        seeded.run_id,
    )


async def test_lines_of_two_jobs_get_run_wide_cursors(logs: Logs) -> None:
    seeded = await running_run(logs.db, jobs=2)
    async with logs.writer(seeded.agent_id) as writer:
        for seq in range(1, 301):
            writer.add(seeded.target(seq % 2), seq, f"line {seq}")
        await writer.flush()
    rows = await stored(logs.db, seeded)
    assert [row["cursor"] for row in rows] == list(range(1, 301))
    for job_id in seeded.job_ids:
        seqs = [row["seq"] for row in rows if row["job_run_id"] == job_id]
        assert len(seqs) == 150
        assert seqs == sorted(seqs)


async def test_the_same_lines_again_are_stored_once(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    at = int(datetime.now(UTC).timestamp() * 1_000_000)
    for last in (50, 60):
        async with logs.writer(seeded.agent_id) as writer:
            for seq in range(1, last + 1):
                writer.add(seeded.target(), seq, f"line {seq}", at=at + seq)
            await writer.flush()
    rows = await stored(logs.db, seeded)
    assert [row["text"] for row in rows] == [f"line {seq}" for seq in range(1, 61)]
    cursors = [row["cursor"] for row in rows]
    assert cursors == sorted(set(cursors))


async def test_lines_of_another_attempt_agent_or_a_finished_job_are_dropped(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    async with logs.writer(seeded.agent_id) as writer:
        writer.add(seeded.target(attempt=1), 1, "from an attempt that is not the newest")
        writer.add(Target(seeded.run_id, uuid4(), 0), 1, "from a job that is not there")
        await writer.flush()
    async with logs.writer(uuid4()) as writer:
        writer.add(seeded.target(), 1, "from an agent that does not have the job")
        await writer.flush()
    await logs.db.execute("UPDATE job_runs SET status = 'success' WHERE id = $1", seeded.job_ids[0])
    async with logs.writer(seeded.agent_id) as writer:
        writer.add(seeded.target(), 1, "late")
        await writer.flush()
    assert await stored(logs.db, seeded) == []
    assert logs.metrics.dropped == {"snapshot_stale": 4}


async def test_times_that_cannot_be_are_replaced(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    now = datetime.now(UTC)
    good = int((now - timedelta(hours=23)).timestamp()) * 1_000_000 + 123456
    wrong = (0, -(2**62), 2**62, int((now + timedelta(days=2)).timestamp() * 1_000_000))
    async with logs.writer(seeded.agent_id) as writer:
        writer.add(seeded.target(), 1, "good", at=good)
        for seq, at in enumerate(wrong, 2):
            writer.add(seeded.target(), seq, "bad", at=at)
        await writer.flush()
    rows = await stored(logs.db, seeded)
    assert math.isclose(rows[0]["at"].timestamp(), good / 1_000_000, abs_tol=1e-6)
    assert rows[0]["at"].microsecond == 123456
    assert len(rows) == 5
    assert all(abs(row["at"] - now) < timedelta(minutes=1) for row in rows[1:])


async def test_text_that_cannot_be_stored_is_made_to_fit(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    async with logs.writer(seeded.agent_id) as writer:
        writer.add(seeded.target(), 1, "a\0b")
        writer.add(seeded.target(), 2, "x" * (TEXT_CHARS + 1), stream="s\0" * 40)
        writer.add(seeded.target(), 3, "")
        await writer.flush()
    rows = await stored(logs.db, seeded)
    assert [row["text"][:4] for row in rows] == ["ab", "xxxx", ""]
    assert rows[1]["text"].endswith("[cut: the line is longer than 1 MiB]")
    assert rows[1]["stream"] == "s" * 32


async def test_a_full_buffer_makes_the_caller_wait_and_drops_nothing(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    async with logs.writer(seeded.agent_id) as writer:
        for seq in range(BUFFER_LINES):
            assert not writer.writer.full
            writer.add(seeded.target(), seq, "line")
        assert writer.writer.full
        await writer.flush()
    assert len(await stored(logs.db, seeded)) == BUFFER_LINES


async def test_lines_survive_a_database_that_goes_away(logs: Logs, postgres_server: Any, database_url: str) -> None:
    seeded = await running_run(logs.db)
    name = database_url.removeprefix("postgresql://ci@/").partition("?")[0]
    async with logs.writer(seeded.agent_id) as writer:
        writer.add(seeded.target(), 1, "before")
        await writer.flush()
        await trio.to_thread.run_sync(
            postgres_server.execute,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        writer.add(seeded.target(), 2, "when it has gone")
        with trio.fail_after(20):
            await writer.flush()
    assert [row["text"] for row in await stored(logs.db, seeded)] == ["before", "when it has gone"]


@pytest.mark.parametrize("text", ["plain {}", "with\nlines {}\n", "", "\x1e{}\x1e", "täxt \U0001f600 {}", "n\0ul {}"])
async def test_batches_are_stored_as_they_came_however_they_are_stored(logs: Logs, text: str) -> None:
    """By long runs, by short runs, and mixed with single lines: three ways to the same rows."""
    seeded = await running_run(logs.db, 3)
    texts = [text.format(number) for number in range(1, 41)]
    streams = ["stdout"] * 20 + ["stderr"] * 20
    async with logs.writer(seeded.agent_id) as writer:
        writer.add_batch(seeded.target(0), 1, texts[:10], [(10, 0, "stdout")])
        writer.add_batch(seeded.target(0), 11, texts[10:], [(10, 5, "stdout"), (20, 5, "stderr")])
        runs = [(2, step, "stdout" if step < 10 else "stderr") for step in range(20)]
        writer.add_batch(seeded.target(1), 1, list(texts), runs)
        writer.add(seeded.target(2), 1, texts[0])
        writer.add_batch(seeded.target(2), 2, texts[1:], [(19, 0, "stdout"), (20, 0, "stderr")])
        await writer.flush()
    for job_id in seeded.job_ids:
        rows = await logs.db.fetch("SELECT * FROM log_lines WHERE job_run_id = $1 ORDER BY cursor", job_id)
        assert [row["text"] for row in rows] == [each.replace("\0", "") for each in texts]
        assert [row["seq"] for row in rows] == list(range(1, 41))
        assert [row["stream"] for row in rows] == streams
    cursors = await logs.db.fetch("SELECT cursor FROM log_lines ORDER BY cursor")
    assert [row["cursor"] for row in cursors] == list(range(1, 121))
    assert await logs.db.fetchval("SELECT last FROM log_cursors") == 120


async def test_a_batch_that_is_there_already_is_stored_once(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    texts = [f"line {number}" for number in range(1, 101)]
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    for _ in range(2):
        async with logs.writer(seeded.agent_id) as writer:
            writer.writer.add_batch(seeded.target(), Columns(1, list(texts), [(100, now, "stdout")]), now)
            await writer.flush()
    assert [row["text"] for row in await stored(logs.db, seeded)] == texts


async def test_a_batch_of_another_agent_is_dropped(logs: Logs) -> None:
    seeded = await running_run(logs.db)
    async with logs.writer(uuid4()) as writer:
        writer.add_batch(seeded.target(), 1, ["x"] * 50, [(50, 0, "stdout")])
        await writer.flush()
    assert await stored(logs.db, seeded) == []
    assert logs.metrics.dropped == {"snapshot_stale": 50}


def test_what_is_rendered() -> None:
    lines = [
        (7, "job", 1, 1_700_000_000_000_000, 'odd "%d" stream', "<b>\n%s\x1b[0m\u2028"),
        (8, "job", 2, 1_700_000_000_120_000, "stdout", ""),
        (9, "other", 1, 1_700_000_000_120_000, "stdout", "ü"),
    ]
    (chunk,) = frames.chunks(6, lines)
    assert (chunk.after, chunk.last) == (6, 9)
    found = chunk.data.split(b"\n\n")
    assert found.pop() == b""
    for frame, line in zip(found, lines, strict=True):
        event, cursor, data = frame.split(b"\n")
        assert (event, cursor) == (b"event: log", b"id: %d" % line[0])
        value = orjson.loads(data.removeprefix(b"data: "))
        assert list(value) == ["job_id", "seq", "stream", "at", "text"]
        assert (value["job_id"], value["seq"], value["stream"], value["text"]) == (line[1], line[2], line[4], line[5])
    ats = [orjson.loads(frame.split(b"data: ")[1])["at"] for frame in found]
    assert ats == ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20.12Z", "2023-11-14T22:13:20.12Z"]
