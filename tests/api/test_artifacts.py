"""The list of a run's artifacts where nobody said how the server is reached; transfer itself is in `service/blobs`."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from structlog.testing import capture_logs

from gocdnext import config
from gocdnext.blobs.room import open_blobs
from tests.api.world import World


async def ready(world: World, run_id: str, path: str) -> None:
    """A ready artifact of a run's first job; its blob does not matter."""
    await world.db.execute(
        "INSERT INTO artifacts (id, run_id, job_run_id, path, storage_key, status, size_bytes, content_sha256,"
        " created_at, expires_at) SELECT $1::uuid, run_id, id, $3, 'run/' || $1, 'ready', 1, 'ab', $4,"
        " $4::timestamptz + interval '30 days' FROM job_runs WHERE run_id = $2 ORDER BY name LIMIT 1",
        uuid4(),
        UUID(run_id),
        path,
        world.now,
    )


async def test_links_lead_to_where_the_server_was_reached(world: World) -> None:
    made = await world.apply()
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    await ready(world, run_id, "dist/app")
    for host in (world.base.removeprefix("http://"), "ci.example.org:8153"):
        answer = await world.http.get(f"/api/v1/runs/{run_id}/artifacts", headers={"Host": host})
        (shown,) = answer.json()
        assert shown["download_url"].startswith(f"http://{host}/artifacts/")
        assert shown["download_url"].endswith("?filename=app.tar.gz")
        assert (shown["created_at"], shown["expires_at"]) == ("2026-04-28T13:00:00Z", "2026-05-28T13:00:00Z")
        assert shown["download_url_expires_at"] == "2026-04-28T13:05:00Z"


async def test_pages_of_the_list(world: World) -> None:
    made = await world.apply()
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    for path in ("c", "a", "b"):
        await ready(world, run_id, path)
    for query, paths in (
        ("", "abc"),
        ("?limit=2", "ab"),
        ("?offset=1", "bc"),
        ("?limit=1&offset=2", "c"),
        ("?offset=9", ""),
    ):
        answer = await world.http.get(f"/api/v1/runs/{run_id}/artifacts{query}")
        assert [entry["path"] for entry in answer.json()] == list(paths)
        assert answer.headers["x-total-count"] == "3"
    for query in ("?limit=0", "?limit=x", "?offset=-1"):
        assert (await world.http.get(f"/api/v1/runs/{run_id}/artifacts{query}")).status_code == 400


async def test_a_server_for_others_that_does_not_know_its_address_says_so(world: World, tmp_path: Path) -> None:
    for variables, warned in (
        ({}, False),
        ({"GOCDNEXT_HTTP_ADDR": ":8153"}, True),
        ({"GOCDNEXT_HTTP_ADDR": ":8153", "GOCDNEXT_PUBLIC_BASE": "https://ci"}, False),
    ):
        settings = config.load({"GOCDNEXT_STATE_DIR": str(tmp_path)} | variables)
        with capture_logs() as events:
            open_blobs(settings, world.db, b"k" * 32, world.services.outbound, world.clock)
        assert bool(events) is warned
