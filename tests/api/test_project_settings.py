"""Notifications, labels and caches of projects over HTTP, and what they lead to (contract-admin 6.3, 6.4, 6.6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.api.crowd import person
from tests.api.test_conventions import error
from tests.api.test_runs import get
from tests.api.world import World, pipeline

PROJECT = "/api/v1/projects/billing"
CHAT = {"on": "failure", "uses": "ghcr.io/acme/notify-chat@v2", "with": {"channel": "builds"}, "secrets": ["CHAT_HOOK"]}


async def put(world: World, what: str, body: object) -> httpx.Response:
    return await world.http.put(f"{PROJECT}/{what}", json=body)


async def test_notifications_are_kept_and_shown(world: World) -> None:
    await world.apply()
    assert await get(world, f"{PROJECT}/notifications") == {"notifications": []}
    before = (await get(world, PROJECT))["project"]["updated_at"]
    world.now = world.now.replace(hour=14)
    odd = {**CHAT, "on": " Always ", "uses": " acme/mail ", "with": None, "secrets": None, "more": 1}
    assert (await put(world, "notifications", {"notifications": [CHAT, odd]})).status_code == 204
    assert await get(world, f"{PROJECT}/notifications") == {
        "notifications": [CHAT, {"on": "always", "uses": "acme/mail"}]
    }
    assert (await get(world, PROJECT))["project"]["updated_at"] > before
    assert (await put(world, "notifications", {"notifications": None})).status_code == 204
    assert await get(world, f"{PROJECT}/notifications") == {"notifications": []}


REFUSED_NOTIFICATIONS: list[tuple[object, str]] = [
    (
        [CHAT, {**CHAT, "on": "nope"}],
        'notifications[1]: unknown on "nope" (allowed: failure, success, always, canceled)',
    ),
    ([{**CHAT, "uses": " "}], "notifications[0]: `uses:` is required"),
    ([{**CHAT, "uses": "a b"}], 'notifications[0]: `uses:` "a b" contains a blank or a line break'),
    ([{**CHAT, "uses": "a\nb"}], 'notifications[0]: `uses:` "a\nb" contains a blank or a line break'),
    ([{"on": "failure", "uses": "acme/x", "with": {"a": "\0"}}], "a value contains a NUL character: '\\x00'"),
    ([CHAT] * 51, "more than 50 notifications"),
]


async def test_what_is_refused_of_notifications(world: World) -> None:
    await world.apply()
    for body, message in REFUSED_NOTIFICATIONS:
        assert error(await put(world, "notifications", {"notifications": body}), 400) == message
    assert await get(world, f"{PROJECT}/notifications") == {"notifications": []}


async def test_shapes_of_notifications(world: World) -> None:
    await world.apply()
    for body in ([], {"notifications": {}}, {"notifications": [1]}, {"notifications": [{**CHAT, "with": {"a": 1}}]}):
        assert error(await put(world, "notifications", body), 400).startswith("invalid json: ")
    large = {"notifications": [{**CHAT, "with": {"text": "x" * 131_072}}]}
    assert error(await put(world, "notifications", large), 400) == "read body: larger than 131072 bytes"


async def test_a_notification_that_was_set_happens(world: World) -> None:
    own = [{"on": "always", "uses": "acme/own"}]
    applied = await world.apply(files={"a.yaml": pipeline("a"), "b.yaml": pipeline("b", notifications=own)})
    secret = {"name": "CHAT_HOOK", "value": "hook-value"}
    assert (await world.http.post(f"{PROJECT}/secrets", json=secret)).is_success
    glad = {"on": "success", "uses": "acme/glad"}
    assert (await put(world, "notifications", {"notifications": [CHAT, glad]})).is_success
    agent = await world.agent_online()
    ids = {entry["name"]: entry["id"] for entry in (await get(world, PROJECT))["pipelines"]}
    assert len(applied["pipelines"]) == 2
    first, second = await world.trigger(ids["a"]), await world.trigger(ids["b"])
    assert (await put(world, "notifications", {"notifications": []})).is_success
    await world.finish_jobs(agent, first, "failed")
    jobs = await notifying(world, first)
    assert [(job["name"], job["status"], job["notify_on"], job["notify_uses"]) for job in jobs] == [
        ("_notify_0", "failed", "failure", "ghcr.io/acme/notify-chat@v2"),
        ("_notify_1", "skipped", "success", "acme/glad"),
    ]
    (sent,) = (made for made in world.fleet.sent if str(made.job_id) == jobs[0]["id"])
    assert (sent.settings, sent.env["CHAT_HOOK"]) == ({"channel": "builds"}, "hook-value")
    assert sent.env["CI_PIPELINE_STATUS"] == "failed"
    assert "hook-value" in sent.masks
    assert [job["notify_uses"] for job in await notifying(world, second)] == ["acme/own"]
    assert await notifying(world, await world.trigger(ids["a"])) == []


async def notifying(world: World, run_id: str) -> list[dict[str, Any]]:
    stages = (await get(world, f"/api/v1/runs/{run_id}"))["stages"]
    return [job for stage in stages if stage["name"] == "_notifications" for job in stage["jobs"]]


async def test_labels(world: World) -> None:
    await world.apply()
    await world.apply("other")
    assert await get(world, f"{PROJECT}/labels") == {"labels": []}
    wanted = [(" team ", "payments"), ("team", "core"), ("team", "payments "), ("flat", ""), ("ü" * 50, "x" * 100)]
    body = {"labels": [{"key": key, "value": value} for key, value in wanted]}
    assert (await put(world, "labels", body)).status_code == 204
    kept = [
        {"key": "flat", "value": ""},
        {"key": "team", "value": "core"},
        {"key": "team", "value": "payments"},
        {"key": "ü" * 50, "value": "x" * 100},
    ]
    assert await get(world, f"{PROJECT}/labels") == {"labels": kept}
    listed = {entry["slug"]: entry["labels"] for entry in (await get(world, "/api/v1/projects"))["projects"]}
    assert listed == {"billing": kept, "other": []}
    assert (await get(world, PROJECT))["project"]["labels"] == kept
    assert (await put(world, "labels", {"labels": kept[:1]})).status_code == 204
    assert await get(world, f"{PROJECT}/labels") == {"labels": kept[:1]}


CONTROLS = "label key/value must not contain line breaks or other control characters"
REFUSED_LABELS: list[tuple[object, str]] = [
    ([{"key": " ", "value": "x"}], "label key is required"),
    ([{"value": "x"}], "label key is required"),
    ([{"key": "a:b", "value": ""}], "label key must not contain ':'"),
    ([{"key": "k" * 101, "value": ""}], "label key/value too long"),
    ([{"key": "k", "value": "ü" * 51}], "label key/value too long"),
    ([{"key": f"k{n}", "value": ""} for n in range(51)], "too many labels"),
    ([{"key": "a\r\nSet-Cookie", "value": "x"}], CONTROLS),
    ([{"key": "a", "value": "\0"}], CONTROLS),
]


async def test_what_is_refused_of_labels(world: World) -> None:
    await world.apply()
    for labels, message in REFUSED_LABELS:
        assert error(await put(world, "labels", {"labels": labels}), 400) == message
    assert await get(world, f"{PROJECT}/labels") == {"labels": []}


async def cache(world: World, project: str, key: str, size: int, status: str = "ready", hours: int = 0) -> str:
    """A cache, with content when it is ready; returns its id."""
    made, storage_key = uuid4(), f"cache/{uuid4()}"
    if status == "ready":
        blob = world.root / "artifacts" / storage_key
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(b"x" * size)
    await world.db.execute(
        "INSERT INTO caches (id, project_id, key, storage_key, status, job_run_id, size_bytes, content_sha256, created_at,"
        " updated_at, last_accessed_at) SELECT $1, id, $3, $4, $5, $1, $6, 'abc', $7, $7, $8"
        " FROM projects WHERE slug = $2",
        made, project, key, storage_key, status, size if status == "ready" else None, world.now,
        world.now + timedelta(hours=hours),
    )  # fmt: skip
    return str(made)


async def test_caches_are_listed_and_purged(world: World) -> None:
    await world.apply()
    await world.apply("other")
    old, new = await cache(world, "billing", "npm", 5), await cache(world, "billing", "pip", 7, hours=2)
    pending = await cache(world, "billing", "pip", 0, "pending", hours=1)
    foreign = await cache(world, "other", "npm", 9)
    found = await get(world, f"{PROJECT}/caches")
    assert [entry["id"] for entry in found["caches"]] == [new, pending, old]
    assert found["total_bytes"] == 12
    assert found["caches"][2] == {
        "id": old,
        "key": "npm",
        "size_bytes": 5,
        "status": "ready",
        "content_sha256": "abc",
        "created_at": "2026-04-28T13:00:00Z",
        "updated_at": "2026-04-28T13:00:00Z",
        "last_accessed_at": "2026-04-28T13:00:00Z",
    }
    assert [entry["id"] for entry in (await get(world, f"{PROJECT}/caches", limit=1, offset=1))["caches"]] == [pending]
    for thing in (foreign, str(uuid4())):
        assert error(await world.http.delete(f"{PROJECT}/caches/{thing}"), 404) == "cache not found"
    assert error(await world.http.delete(f"{PROJECT}/caches/x"), 400) == "invalid id"
    key = await world.db.fetchval("SELECT storage_key FROM caches WHERE id = $1", UUID(new))
    assert (world.root / "artifacts" / key).exists()
    assert (await world.http.delete(f"{PROJECT}/caches/{new}")).status_code == 204
    assert not (world.root / "artifacts" / key).exists()
    assert error(await world.http.delete(f"{PROJECT}/caches/{new}"), 404) == "cache not found"
    assert [entry["id"] for entry in (await get(world, f"{PROJECT}/caches"))["caches"]] == [pending, old]
    events = (await get(world, "/api/v1/admin/audit", action="cache.purge"))["events"]
    (told,) = [event for event in events if event["outcome"] == "done"]
    assert (told["target_id"], told["metadata"]) == (new, {"slug": "billing", "key": "pip", "bytes": 7})


async def test_unknown_projects(world: World) -> None:
    for what in ("notifications", "labels", "caches"):
        assert error(await world.http.get(f"/api/v1/projects/nope/{what}"), 404) == "project not found"
    for what in ("notifications", "labels"):
        assert error(await world.http.put(f"/api/v1/projects/nope/{what}", json={}), 404) == "project not found"
    answer = await world.http.delete(f"/api/v1/projects/nope/caches/{uuid4()}")
    assert error(answer, 404) == "project not found"


async def test_purging_takes_an_admin(guarded: World) -> None:
    someone = await person(guarded, "maintainer")
    answer = await guarded.http.delete(f"{PROJECT}/caches/{uuid4()}", headers=someone.headers)
    assert error(answer, 403) == "forbidden"
