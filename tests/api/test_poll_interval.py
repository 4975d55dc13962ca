"""How often a project's repository is polled is set by maintainers, and shown with the project (contract-admin 6.2)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.test_conventions import error
from tests.api.world import TOKEN, World, pipeline

SOURCE = {"url": "https://example.org/acme/billing.git", "provider": "gitlab"}
PATH = "/api/v1/projects/billing/poll-interval"


async def bound(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a")}, scm_source=SOURCE)


async def put(world: World, interval: object, path: str = PATH) -> httpx.Response:
    return await world.http.put(path, json={"interval": interval})


async def shown(world: World) -> Any:
    return (await world.http.get("/api/v1/projects/billing")).json()["scm_source"].get("poll_interval_ns")


@pytest.mark.parametrize(
    ("text", "kept", "nanoseconds"),
    [
        ("5m", "5m0s", 300_000_000_000),
        (" 90m ", "1h30m0s", 5_400_000_000_000),
        ("60s", "1m0s", 60_000_000_000),
        ("1m30.25s", "1m30.25s", 90_250_000_000),
        ("24h", "24h0m0s", 86_400_000_000_000),
    ],
)
async def test_it_is_kept_and_shown(world: World, text: str, kept: str, nanoseconds: int) -> None:
    await bound(world)
    answer = await put(world, text)
    assert (answer.status_code, answer.json()) == (200, {"interval": kept, "enabled": True})
    assert await shown(world) == nanoseconds
    await bound(world)
    assert await shown(world) == nanoseconds, "an apply does not change it"
    assert (await put(world, "")).json() == {"interval": "", "enabled": False}
    assert await shown(world) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30s", 'poll_interval "30s" is below minimum 1m0s'),
        ("0", 'poll_interval "0" is below minimum 1m0s'),
        ("-5m", 'poll_interval "-5m" is below minimum 1m0s'),
        ("25h", 'poll_interval "25h" exceeds maximum 24h0m0s'),
        ("abc", 'poll_interval: parse "abc": not a duration: write for example 5m or 1h30m'),
        ("300", 'poll_interval: parse "300": not a duration: write for example 5m or 1h30m'),
        ("1m\0", 'poll_interval: parse "1m\0": not a duration: write for example 5m or 1h30m'),
    ],
)
async def test_what_is_refused(world: World, text: str, message: str) -> None:
    await bound(world)
    assert error(await put(world, text), 400) == message
    assert await shown(world) is None


async def test_bodies_that_say_nothing(world: World) -> None:
    await bound(world)
    for body in (b"", b"{}", b"[]", b"x", b'{"interval": 5}', b'{"interval": null}'):
        assert error(await world.http.put(PATH, content=body), 400).startswith("invalid json: ")


async def test_projects_without_a_repository(world: World) -> None:
    await world.apply()
    assert error(await put(world, "5m"), 409) == "project has no scm_source bound — connect a repo first"
    assert error(await put(world, "5m", "/api/v1/projects/nope/poll-interval"), 404) == "project not found"


async def test_it_takes_a_maintainer(guarded: World) -> None:
    error(await put(guarded, "5m"), 401)
    answer = await guarded.http.put(PATH, json={"interval": "5m"}, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 404
