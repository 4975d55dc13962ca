"""The administration of agents over HTTP."""

from __future__ import annotations

import hashlib
from uuid import UUID

import pytest
import trio
import trio.testing

from gocdnext.db import listener
from tests.api.crowd import person
from tests.api.test_conventions import error
from tests.api.test_runs import UNKNOWN, get
from tests.api.world import World


async def test_a_token_is_shown_once_and_kept_as_its_hash(world: World) -> None:
    made = await world.http.post("/api/v1/agents", json={"name": "runner"})
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    agent, first = made.json()["id"], made.json()["token"]

    async def stored() -> str:
        found: str = await world.db.fetchval("SELECT token_hash FROM agents WHERE id = $1", UUID(agent))
        return found

    assert await stored() == hashlib.sha256(first.encode()).hexdigest()
    assert error(await world.http.post("/api/v1/agents", json={"name": "runner"}), 409).startswith("an agent of this")
    second = (await world.http.post(f"/api/v1/agents/{agent}/token")).json()["token"]
    assert second != first
    assert await stored() == hashlib.sha256(second.encode()).hexdigest()
    for path in ("", f"/{agent}"):
        text = (await world.http.get(f"/api/v1/agents{path}")).text
        assert first not in text
        assert second not in text


async def test_what_is_refused(world: World) -> None:
    for name in ("", "  ", "n" * 254, "a\0b", "a\r\nb"):
        assert error(await world.http.post("/api/v1/agents", json={"name": name}), 400).startswith("name must have")
    assert error(await world.http.post("/api/v1/agents", content=b"[]"), 400).startswith("invalid JSON body")
    for verb in ("token", "disable", "enable"):
        assert error(await world.http.post(f"/api/v1/agents/x/{verb}"), 400) == "invalid id"
        assert error(await world.http.post(f"/api/v1/agents/{UNKNOWN}/{verb}"), 404) == "agent not found"


async def test_every_server_hears_of_a_disabled_agent(world: World, database_url: str) -> None:
    agent = (await world.agent_online()).id
    heard: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run, {"dsn": database_url}, {"agent_changed": heard.append}, lambda: None)
        for verb, status, health in (
            ("disable", "disabled", "offline"),
            ("disable", "disabled", "offline"),
            ("enable", "online", "online"),
            ("enable", "online", "online"),
        ):
            answer = await world.http.post(f"/api/v1/agents/{agent}/{verb}")
            assert (answer.status_code, answer.content) == (204, b"")
            shown = (await get(world, f"/api/v1/agents/{agent}"))["agent"]
            assert (shown["status"], shown["health_state"]) == (status, health)
        with trio.fail_after(20):
            while len(heard) < 4:
                await trio.testing.wait_all_tasks_blocked(0.002)
        nursery.cancel_scope.cancel()
    assert heard == [f"{agent} disabled"] * 2 + [f"{agent} enabled"] * 2


@pytest.mark.parametrize("role", ["viewer", "maintainer"])
async def test_only_administrators_change_agents(guarded: World, role: str) -> None:
    headers = (await person(guarded, role)).headers
    assert (await guarded.http.get("/api/v1/agents", headers=headers)).status_code == 200
    for path in ("", f"/{UNKNOWN}/token", f"/{UNKNOWN}/disable", f"/{UNKNOWN}/enable"):
        assert error(await guarded.http.post(f"/api/v1/agents{path}", headers=headers), 403) == "forbidden"
