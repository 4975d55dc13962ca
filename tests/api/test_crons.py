"""The schedules of a project over HTTP (contract-admin 6.5)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.crowd import machine, person
from tests.api.test_conventions import error
from tests.api.world import World, pipeline

PATH = "/api/v1/projects/billing/crons"
NIGHTLY = {"name": " nightly ", "expression": "30 2 * * 1-5"}


async def make(world: World, **more: Any) -> Any:
    answer = await world.http.post(PATH, json=NIGHTLY | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_schedule_is_made_changed_and_removed(world: World) -> None:
    await world.apply()
    assert (await world.http.get(PATH)).json() == {"crons": []}
    made = await make(world)
    assert (made["name"], made["pipeline_ids"], made["enabled"]) == ("nightly", [], True)
    assert made["next_at"]
    assert not {"last_fired_at", "created_by"} & made.keys()
    changed = {"name": "weekly", "expression": "@weekly", "enabled": False}
    assert (await world.http.put(f"{PATH}/{made['id']}", json=changed)).status_code == 204
    # A missing `enabled` keeps what is there.
    assert (
        await world.http.put(f"{PATH}/{made['id']}", json={"name": "w", "expression": "@weekly"})
    ).status_code == 204
    (kept,) = (await world.http.get(PATH)).json()["crons"]
    assert (kept["name"], kept["expression"], kept["enabled"], kept["created_at"]) == (
        "w",
        "@weekly",
        False,
        made["created_at"],
    )
    for _ in range(2):
        assert (await world.http.delete(f"{PATH}/{made['id']}")).status_code == 204
    events = (await world.http.get("/api/v1/admin/audit")).json()["events"]
    told = [(event["action"], event["target_id"]) for event in events if event["action"].startswith("project_cron")]
    assert sorted(told) == [(f"project_cron.{what}", made["id"]) for what in ("create", "delete", "update", "update")]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"expression": "@daily"}, "name is required"),
        ({"name": "n"}, "expression is required"),
        ({"name": "n", "expression": "0 0 30 2 *"}, "invalid cron expression: "),
        ({"name": "n", "expression": "TZ=Area"}, "invalid cron expression: "),
        ({"name": "n", "expression": "@daily", "pipeline_ids": ["x"]}, "pipeline_ids contains invalid uuid: x"),
        ({"name": "n\0", "expression": "@daily"}, "name must be"),
        ({"name": "n", "expression": "@daily\0"}, "invalid cron expression: "),
    ],
)
async def test_what_is_refused(world: World, body: dict[str, Any], text: str) -> None:
    await world.apply()
    made = await make(world)
    for method, path in (("POST", PATH), ("PUT", f"{PATH}/{made['id']}")):
        assert error(await world.http.request(method, path, json=body), 400).startswith(text)


async def test_names_are_taken_once_and_other_projects_are_left_alone(world: World) -> None:
    await world.apply()
    await world.apply("other", files={"x.yaml": pipeline("x")})
    made = await make(world)
    assert error(await world.http.post(PATH, json=NIGHTLY), 409) == "cron name already exists"
    second = await make(world, name="second")
    assert error(await world.http.put(f"{PATH}/{second['id']}", json=NIGHTLY), 409) == "cron name already exists"
    foreign = await world.db.fetchval("SELECT id FROM pipelines WHERE name = 'x'")
    refused = await world.http.post(PATH, json=NIGHTLY | {"name": "x", "pipeline_ids": [str(foreign)]})
    assert error(refused, 400) == f"pipeline_ids contains unknown pipeline: {foreign}"
    beside = f"/api/v1/projects/other/crons/{made['id']}"
    assert error(await world.http.put(beside, json=NIGHTLY), 404) == "cron does not belong to this project"
    assert error(await world.http.delete(beside), 404) == "cron not found"
    assert error(await world.http.put(f"{PATH}/{uuid4()}", json=NIGHTLY), 404) == "cron not found"
    assert error(await world.http.put(f"{PATH}/7", json=NIGHTLY), 400) == "invalid cron id"
    assert error(await world.http.delete(f"{PATH}/7"), 400) == "invalid cron id"
    for method, path in (("GET", PATH), ("POST", PATH), ("PUT", f"{PATH}/{uuid4()}"), ("DELETE", f"{PATH}/{uuid4()}")):
        answer = await world.http.request(method, path.replace("billing", "nowhere"), json=NIGHTLY)
        assert error(answer, 404) == "project not found"


async def test_who_made_it(guarded: World) -> None:
    rita, bot = await person(guarded, "maintainer"), await machine(guarded, "maintainer")
    body = {"slug": "billing", "files": [{"name": "ci.yaml", "content": pipeline("ci")}]}
    assert (await guarded.http.post("/api/v1/projects/apply", json=body, headers=rita.headers)).status_code == 200
    for who, expected in ((rita, str(rita.id)), (bot, None)):
        answer = await guarded.http.post(PATH, json={"name": str(who.id), "expression": "@daily"}, headers=who.headers)
        assert (answer.status_code, answer.json().get("created_by")) == (201, expected)
