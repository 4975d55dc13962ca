"""Secrets over HTTP (contract-admin 5.3 to 5.6)."""

from __future__ import annotations

import pytest

from tests.api.world import TOKEN, World

VALUE = "hunter2-hunter2"


async def test_a_secret_is_made_replaced_listed_and_removed(world: World) -> None:
    slug = (await world.apply())["project_slug"]
    path = f"/api/v1/projects/{slug}/secrets"
    made = await world.http.post(path, json={"name": " NPM_TOKEN ", "value": VALUE})
    assert (made.status_code, made.json()) == (201, {"name": "NPM_TOKEN", "created": True})
    again = await world.http.post(path, json={"name": "NPM_TOKEN", "value": "changed"})
    assert (again.status_code, again.json()) == (200, {"name": "NPM_TOKEN", "created": False})
    await world.http.post("/api/v1/admin/secrets", json={"name": "SLACK", "value": VALUE})
    listed = await world.http.get(path)
    document = listed.json()
    assert [(entry["name"], entry["source"]) for entry in document["secrets"]] == [("NPM_TOKEN", "db")]
    assert [entry["name"] for entry in document["inherited"]] == ["SLACK"]
    assert (document["total"], document["limit"], document["offset"]) == (1, 50, 0)
    assert document["configured_sources"] == ["db"]
    assert VALUE not in listed.text
    gone = await world.http.delete(f"{path}/NPM_TOKEN")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await world.http.delete(f"{path}/NPM_TOKEN")).json() == {"error": "secret not found"}
    assert "inherited" not in (await world.http.get("/api/v1/admin/secrets")).json()
    assert (await world.http.delete("/api/v1/admin/secrets/SLACK")).status_code == 204


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "name is required"),
        ({"name": "a b"}, 400, 'store: secret name must match ^[A-Za-z][A-Za-z0-9_]{0,63}$ (got "a b")'),
        ({"name": "A", "ref": {"path": "x"}}, 400, "db secret takes no ref path/key"),
        ({"name": "A", "source": "magic"}, 400, 'unknown secret source "magic"'),
        ({"name": "A", "source": "vault"}, 400, 'secret source "vault" is not configured on this server'),
        ({"name": "A", "value": "x" * 70_000}, 413, "secret value too large — cap is 64 KiB"),
        ({"name": 1}, 400, "invalid json"),
    ],
)
async def test_what_is_refused(world: World, body: object, status: int, error: str) -> None:
    slug = (await world.apply())["project_slug"]
    answer = await world.http.post(f"/api/v1/projects/{slug}/secrets", json=body)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(error)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=-1", "offset=-1", "limit=99999999999", "offset=x"])
async def test_odd_pages_are_the_first_one(world: World, query: str) -> None:
    slug = (await world.apply())["project_slug"]
    document = (await world.http.get(f"/api/v1/projects/{slug}/secrets?{query}")).json()
    assert (document["limit"], document["offset"]) == (50, 0)
    assert (await world.http.get(f"/api/v1/projects/{slug}/secrets?limit=900")).json()["limit"] == 200


async def test_unknown_projects(world: World) -> None:
    path = "/api/v1/projects/nobody/secrets"
    for answer in (
        await world.http.get(path),
        await world.http.post(path, json={"name": "A", "value": "x"}),
        await world.http.delete(f"{path}/A"),
    ):
        assert (answer.status_code, answer.json()) == (404, {"error": "project not found"})


async def test_nobody_reads_or_writes_without_a_token(guarded: World) -> None:
    for method, path in (("GET", "/api/v1/projects/x/secrets"), ("POST", "/api/v1/admin/secrets")):
        assert (await guarded.http.request(method, path)).status_code == 401
    allowed = await guarded.http.get("/api/v1/admin/secrets", headers={"Authorization": f"Bearer {TOKEN}"})
    assert allowed.status_code == 200
