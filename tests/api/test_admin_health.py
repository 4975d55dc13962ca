"""GET /api/v1/admin/health: how the server is (contract-admin 7.6)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import trio

from tests.api.test_runs import get, one_run
from tests.api.world import World, served
from tests.postgres_fixture import running_server

PATH = "/api/v1/admin/health"


async def test_figures(world: World) -> None:
    assert await get(world, PATH) == {
        "db_ok": True,
        "db_error": "",
        "agents_online": 0,
        "agents_stale": 0,
        "agents_offline": 0,
        "queued_runs": 0,
        "pending_jobs": 0,
        "success_rate_7d": 0.0,
        "checked_at": "2026-04-28T13:00:00Z",
        "scheduler_tick_lag_seconds": None,
        "scheduler_last_tick_at": None,
    }
    await one_run(world)
    for name, seen, status in (("a", 0, "online"), ("b", 91, "online"), ("c", 0, "disabled")):
        agent = await world.agent_online(name)
        await world.db.execute(
            "UPDATE agents SET last_seen_at = $2, status = $3 WHERE id = $1",
            agent.id,
            world.now - timedelta(seconds=seen),
            status,
        )
    for status in ("success", "success", "success", "failed", "canceled"):
        await world.db.execute(
            "INSERT INTO runs (id, pipeline_id, definition_id, counter, cause, status, created_at, finished_at)"
            " SELECT gen_random_uuid(), pipeline_id, definition_id, (SELECT max(counter) + 1 FROM runs), 'manual', $1, $2, $2"
            " FROM runs LIMIT 1",
            status,
            world.now,
        )
    found = await get(world, PATH)
    agents = {name: found[f"agents_{name}"] for name in ("online", "stale", "offline")}
    assert agents == {"online": 1, "stale": 1, "offline": 1}
    assert (found["queued_runs"], found["pending_jobs"]) == (1, 2), "runs, not their jobs"
    assert found["success_rate_7d"] == 0.75


async def test_the_lag_of_the_scheduler(world: World) -> None:
    assert world.app is not None
    late = trio.current_time() - 20
    world.app.extensions["gocdnext.services"] = replace(world.services, last_pass=lambda: late)
    found = await get(world, PATH)
    assert 5.0 <= found["scheduler_tick_lag_seconds"] < 100
    assert "2026-04-28T12:5" in found["scheduler_last_tick_at"]


async def test_it_answers_while_the_database_is_away(tmp_path: Path) -> None:
    with running_server() as server:
        url = server.migrated_database()
        async with served(url, tmp_path / "state") as world:
            server.stop()
            found = await get(world, PATH)
    assert found["db_ok"] is False
    assert found["db_error"]
