"""What sweepers have done, doing it by hand, and whether logs are archived (contract-admin 6.1, 7.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio
import trio.testing
from prometheus_client import generate_latest

from gocdnext.blobs.quotas import NO_QUOTAS
from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.sweepers import archiver, blobs, partitions
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board
from tests.api.test_conventions import error
from tests.api.world import World
from tests.blob_room import blobs_in

PATH = "/api/v1/admin/retention"
ARCHIVE = "/api/v1/projects/billing/log-archive"


async def test_before_the_first_pass(world: World) -> None:
    found = (await world.http.get(PATH)).json()
    assert (found["enabled"], found["tick"], found["batch_size"], found["grace_minutes"]) == (True, 600 * 10**9, 500, 5)
    assert (found["keep_last"], found["project_quota_bytes"], found["global_quota_bytes"]) == (30, 107374182400, 0)
    assert (found["cache_ttl"], found["cache_project_quota_bytes"]) == (2592000000000000, 0)
    assert "last_sweep_at" not in found
    assert found["totals"].pop("sweeps") == 0
    assert set(found["last_stats"].values()) == set(found["totals"].values()) == {0}
    assert found["last_stats"].keys() == found["totals"].keys()


async def test_sweepers_are_run_by_hand_and_tell_what_they_did(world: World, tmp_path: Path) -> None:
    board, store = world.board, blobs_in(tmp_path, world.db).store
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: partitions.run(world.db, 3, world.clock, board=board))
        nursery.start_soon(lambda: blobs.run(world.db, store, None, world.clock, quotas=NO_QUOTAS, board=board))
        nursery.start_soon(archiver.run, world.db, store, "auto", world.clock, uuid4, board)

        async def broken() -> int:
            raise DatabaseUnavailableError("the database is not available: gone")

        nursery.start_soon(lambda: every(3600, "broken", broken, board=board))
        await trio.testing.wait_all_tasks_blocked()
        answer = await world.http.post(f"{PATH}/run")
        nursery.cancel_scope.cancel()
    assert answer.status_code == 200, answer.text
    found = answer.json()
    told = {one["name"]: one for one in found["sweepers"]}
    assert told.keys() == {"partitions", "blobs", "lost blobs", "log archive", "broken"}
    assert (told["broken"]["failures"], told["broken"]["last_error"]) == (1, "the database is not available: gone")
    assert found["last_sweep_at"] == told["blobs"]["last_at"]
    assert found["totals"]["sweeps"] == 1
    assert found["totals"]["LogPartitionsCreated"] >= 3


async def test_whether_logs_are_archived(world: World) -> None:
    await world.apply()
    answer: dict[str, Any] = {"enabled": None, "global_policy": "auto", "has_artifact_backend": True}
    assert (await world.http.get(ARCHIVE)).json() == answer
    for enabled in (True, False, None):
        put = await world.http.put(ARCHIVE, json={"enabled": enabled})
        assert (put.status_code, put.json()) == (200, answer | {"enabled": enabled})
        assert (await world.http.get(ARCHIVE)).json() == answer | {"enabled": enabled}
    assert (await world.http.put(ARCHIVE, json={})).json()["enabled"] is None
    for method in ("GET", "PUT"):
        nowhere = await world.http.request(method, ARCHIVE.replace("billing", "nowhere"), json={})
        assert error(nowhere, 404) == "project not found"
    assert (await world.http.put(ARCHIVE, content=b'{"enabled": "yes"}')).status_code == 400
    assert (await world.http.put(ARCHIVE, content=b"{" + b" " * 1024 + b"}")).status_code == 413


@pytest.mark.parametrize("text", ["gocdnext_log_archive_jobs_total", "gocdnext_retention_dropped_log_partitions_total"])
async def test_metrics(world: World, text: str) -> None:
    board = Board(world.clock, world.metrics)

    async def sweep() -> dict[str, int]:
        return {"ArchivesReSubmitted": 2, "LogPartitionsDropped": 3}

    board.add("some", sweep)
    await board.once("some")
    shown = generate_latest(world.metrics.registry).decode()
    assert text in shown
    assert 'gocdnext_sweeps_total{outcome="done",sweeper="some"} 1.0' in shown


async def test_the_plan(world: World) -> None:
    found = (await world.http.get(f"{PATH}/plan")).json()
    assert found.pop("computed_at")
    assert found == {"complete": True, "count": 0, "bytes": 0, "goes": [], "stays": []}
    await world.db.execute(
        "INSERT INTO webhook_deliveries (provider, event, status, http_status, verified, headers, received_at)"
        " VALUES ('github', 'push', 'accepted', 202, TRUE, '{}', '2020-01-01')"
    )
    found = (await world.http.get(f"{PATH}/plan?keep_last=1&project_quota_bytes=5")).json()
    assert (found["count"], found["bytes"]) == (1, 0)
    assert (await world.http.get(f"{PATH}/plan?keep_last=-1")).status_code == 400
    assert found["goes"] == [
        {
            "kind": "deliveries",
            "reason": "old_deliveries",
            "why": "they are older than 30 days",
            "count": 1,
            "bytes": 0,
            "oldest": "2020-01-01T00:00:00Z",
        }
    ]


async def test_pinning_what_is_not_there(world: World) -> None:
    for word in ("pin", "unpin"):
        answer = await world.http.post(f"/api/v1/runs/{uuid4()}/artifacts/{word}", json={"paths": ["a"]})
        assert error(answer, 404) == "the run has no such artifact that is ready"
        assert (await world.http.post(f"/api/v1/runs/{uuid4()}/artifacts/{word}", json={"paths": 7})).status_code == 400
